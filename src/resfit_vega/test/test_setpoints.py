import threading
import time

import numpy as np
import pytest

from resfit_vega.setpoints import Setpoints


class Sink:
    """Keeps what was sent, and when."""

    def __init__(self):
        self.sent, self.times, self.error = [], [], None
        self.came = threading.Event()

    def __call__(self, positions):
        if self.error is not None:
            raise self.error
        self.sent.append(positions.copy())
        self.times.append(time.monotonic())

    def wait(self, count):
        end = time.monotonic() + 5
        while len(self.sent) < count:
            assert time.monotonic() < end, f"expected {count} setpoints, found {len(self.sent)}"
            time.sleep(0.002)


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
def setpoints(sink):
    result = Setpoints(sink, period=0.1, frequency=100.0)
    yield result
    result.end()


def test_evenly_to_the_target_in_one_period(setpoints, sink):
    setpoints.start(np.array([1.0, -1.0]))
    target = np.array([2.0, -3.0])
    begun = time.monotonic()
    setpoints.go(target)
    target[:] = 9.0  # it is not the caller's any more
    sink.wait(5)
    time.sleep(0.2)
    sent = np.array(sink.sent)
    np.testing.assert_array_equal(sent[-1], [2.0, -3.0])
    np.testing.assert_allclose(sent[:, 1] + 1, -2 * (sent[:, 0] - 1), atol=1e-12)
    shares = sent[:, 0] - 1
    assert (np.diff(shares) > 0).all() and len(sent) <= 11
    # Each is one setpoint ahead of its time.
    due = np.clip((np.array(sink.times) - begun) / 0.1 + 0.1, 0, 1)
    np.testing.assert_allclose(shares, due, atol=0.1)


def test_a_new_target_goes_on_from_where_it_is(setpoints, sink):
    setpoints.start(np.zeros(1))
    setpoints.go(np.ones(1))
    sink.wait(4)
    setpoints.go(np.zeros(1))
    time.sleep(0.25)
    sent = np.array(sink.sent)[:, 0]
    assert sent.max() < 1 and sent[-1] == 0
    assert np.abs(np.diff(sent)).max() < 0.5


def test_nothing_is_sent_when_stopped_and_a_start_goes_on(setpoints, sink):
    setpoints.go(np.ones(1))
    time.sleep(0.05)
    assert not sink.sent
    setpoints.start(np.zeros(1))
    time.sleep(0.05)
    assert not sink.sent
    setpoints.go(np.ones(1))
    sink.wait(3)
    setpoints.stop()
    count = len(sink.sent)
    time.sleep(0.15)
    setpoints.go(np.zeros(1))
    time.sleep(0.05)
    assert len(sink.sent) == count
    setpoints.start(np.full(1, 5.0))
    setpoints.go(np.full(1, 5.0))
    sink.wait(count + 1)
    assert sink.sent[-1] == 5.0


def test_a_failure_ends_the_sending_and_is_told_once(setpoints, sink):
    sink.error = RuntimeError("blocked")
    setpoints.start(np.zeros(1))
    setpoints.go(np.ones(1))
    end = time.monotonic() + 5
    while not (failure := setpoints.take_failure()):
        assert time.monotonic() < end
        time.sleep(0.005)
    assert failure == "blocked" and setpoints.take_failure() == ""
    sink.error = None
    setpoints.go(np.ones(1))
    time.sleep(0.05)
    assert not sink.sent
