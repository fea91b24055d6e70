"""The thread on a source that the test plays."""

import threading
import time

import numpy as np
import pytest

from resfit_cameras.grabbing import Grabber
from resfit_cameras.source import EndOfSource, Frame, SourceError


class Played:
    """Plays what it is given: frames, None, exceptions, or an Event it hangs on."""

    size = (2, 2)
    description = "played"

    def __init__(self, items, live=False, views=1):
        self.items = list(items)
        self.live = live
        self.intrinsics = (None,) * views
        self.closed = self.skipped = False

    def grab(self):
        item = self.items.pop(0) if self.items else EndOfSource("end")
        if isinstance(item, threading.Event):
            item.wait()
            return None
        if isinstance(item, Exception):
            raise item
        return item

    def skip_waiting(self):
        self.skipped = True

    def close(self):
        self.closed = True


def frame(*shades, stamp=0, dropped=None):
    return Frame(tuple(np.full((40, 4, 3), s, np.uint8) for s in shades), stamp, dropped)


def run(source, paced=False, limit=0, deliver=None):
    """The grabber and the frames it handed on, once its source ended."""
    delivered = []
    grabber = Grabber(source, deliver or delivered.append, paced=paced, max_identical_frames=limit)
    grabber.start()
    end = time.monotonic() + 10
    while not grabber.health().failure:
        assert time.monotonic() < end
        time.sleep(0.002)
    return grabber, delivered


def test_frames_are_handed_on_in_order_and_the_end_is_said():
    frames = [frame(i, dropped=i) for i in range(5)]
    grabber, delivered = run(Played([frames[0], None, *frames[1:]]))
    assert delivered == frames
    health = grabber.health()
    assert (health.frames, health.dropped, health.failure, health.ended) == (5, 4, "end", True)
    assert grabber.stop(1.0)


def test_a_file_keeps_the_pace_of_its_stamps():
    arrivals = []
    frames = [frame(i, stamp=5_000_000_000 + i * 50_000_000) for i in range(6)]
    grabber, _ = run(
        Played(frames), paced=True, deliver=lambda _: arrivals.append(time.monotonic())
    )
    assert arrivals[-1] - arrivals[0] == pytest.approx(0.25, abs=0.04)
    assert grabber.health().rate == pytest.approx(20.0, abs=4)


def test_the_same_picture_too_often_is_frozen_and_not_handed_on():
    shades = [1, 2, 2, 2, 2, 3, 3, 4]
    grabber, delivered = run(Played([frame(s) for s in shades]), limit=3)
    assert [f.views[0][0, 0, 0] for f in delivered] == [1, 2, 2, 3, 3, 4]
    assert grabber.health().frozen == ()
    grabber, _ = run(Played([frame(7)] * 5), limit=3)
    assert grabber.health().frozen == (0,) and grabber.health().repeats == (5,)
    grabber, delivered = run(Played([frame(7)] * 5), limit=0)
    assert grabber.health().frozen == () and len(delivered) == 5


def test_one_frozen_eye_of_two_is_seen():
    grabber, delivered = run(Played([frame(i, 9) for i in range(4)], views=2), limit=3)
    assert grabber.health().frozen == (1,) and grabber.health().repeats == (1, 4)
    assert len(delivered) == 2


def test_one_pixel_is_a_difference():
    pictures = [frame(5) for _ in range(4)]
    for number, item in enumerate(pictures):
        item.views[0][7, 1, 2] = number
    grabber, delivered = run(Played(pictures), limit=2)
    assert len(delivered) == 4 and grabber.health().frozen == ()


def test_a_source_that_dies_and_one_that_breaks(capfd):
    grabber, delivered = run(Played([frame(1), SourceError("camera gone")]))
    assert grabber.health().failure == "camera gone" and not grabber.health().ended
    assert len(delivered) == 1
    grabber, _ = run(Played([RuntimeError("odd")]))
    assert grabber.health().failure == "RuntimeError: odd"
    assert "Traceback" in capfd.readouterr().err


def test_stamps_of_a_live_source_are_held_against_the_clock():
    grabber, _ = run(Played([frame(1, stamp=time.time_ns() - 3_000_000_000)], live=True))
    assert grabber.health().delay == pytest.approx(3.0, abs=0.2)


def test_a_hanging_grab_is_left_to_close_its_source_itself():
    hang = threading.Event()
    source = Played([hang, frame(1)])
    delivered = []
    grabber = Grabber(source, delivered.append, paced=False, max_identical_frames=0)
    grabber.start()
    assert not grabber.stop(0.05) and not source.closed
    hang.set()
    end = time.monotonic() + 5
    while not source.closed:
        assert time.monotonic() < end
        time.sleep(0.002)
    assert not delivered
