import signal
import sys

import pytest

from resfit_cameras import opencv_camera, zed_camera


@pytest.fixture
def run_main(monkeypatch, capfd):
    """Called with a node and parameters: exit code and stderr of its main function."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("ROS_DOMAIN_ID", "91")

    def run(node, **parameters):
        arguments = [part for n, v in parameters.items() for part in ("-p", f"{n}:={v}")]
        monkeypatch.setattr(sys, "argv", ["camera", "--ros-args", *arguments])
        return node.main(), capfd.readouterr().err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("node", "parameters", "expected"),
    [
        (zed_camera, {}, "error: pyzed: expected the Python API of the ZED SDK, found none: "),
        (zed_camera, {"exposure": 101}, "error: parameter 'exposure': expected int in [-1, 100]"),
        (zed_camera, {"gain": 5}, "error: exposure and gain: expected both given or both"),
        (zed_camera, {"resolution": "8K"}, "error: parameter 'resolution': expected one of AUTO,"),
        (
            opencv_camera,
            {"source": "/nonexistent.mp4"},
            "error: source '/nonexistent.mp4': expected a camera or a file, found none",
        ),
        (
            opencv_camera,
            {"image_width": 0},
            "error: parameters 'image_height', 'image_width': expected both or none to be 0",
        ),
        (
            opencv_camera,
            {"max_identical_frames": 1},
            "error: parameter 'max_identical_frames': expected 0, or 2 and more, found 1",
        ),
        (
            opencv_camera,
            {"camera_frame": "frame_{cam}"},
            "error: parameter 'camera_frame': expected only {camera}",
        ),
        (
            opencv_camera,
            {"side_by_side": True, "right_camera": "head_left"},
            "error: parameter 'right_camera': expected another name",
        ),
        (opencv_camera, {"left_camera": "a/b"}, "error: parameter 'left_camera': expected letters"),
        (opencv_camera, {"fourcc": "MJ"}, "error: parameter 'fourcc': expected four letters"),
    ],
)
def test_what_cannot_start_ends_with_one_line(run_main, node, parameters, expected):
    code, errors = run_main(node, **parameters)
    assert code == 1
    assert errors.startswith(expected) and errors.count("\n") == 1, errors
