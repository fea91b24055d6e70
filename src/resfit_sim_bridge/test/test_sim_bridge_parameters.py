import signal
import sys

import pytest

from resfit_sim_bridge.sim_bridge import main


@pytest.fixture
def run_main(monkeypatch, capfd):
    """Called with parameters: exit code and stderr of the bridge's main function."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("ROS_DOMAIN_ID", "16")

    def run(**parameters):
        arguments = [part for n, v in parameters.items() for part in ("-p", f"{n}:={v}")]
        monkeypatch.setattr(sys, "argv", ["sim_bridge", "--ros-args", *arguments])
        return main(), capfd.readouterr().err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"task": "squre"}, "error: task: expected one of can, square, "),
        ({"image_width": 4}, "error: parameter 'image_width': expected int in [8, 2048]"),
        ({"mode": "fast"}, "error: parameter 'mode': expected one of lockstep, real_time, found"),
        ({"shadows": 3}, "error: parameter 'shadows': expected bool"),
        (
            {"camera_frame": "frame_{cam}"},
            "error: parameter 'camera_frame': expected only {camera}",
        ),
    ],
)
def test_wrong_parameters_end_with_one_line(run_main, parameters, expected):
    code, errors = run_main(**parameters)
    assert code == 1
    assert errors.startswith(expected) and errors.count("\n") == 1, errors
