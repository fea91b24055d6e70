"""The nodes as processes, driven through their lifecycle services."""

import time

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rosgraph_msgs.msg import Clock

from resfit_cameras.pictures import Fit
from resfit_interfaces.msg import NodeHeartbeat
from resfit_ros import qos
from resfit_ros.conversions import image_to_array, stamp_to_ns


def stamps(messages):
    return np.array([stamp_to_ns(message.header.stamp) for message in messages])


def test_lifecycle_through_its_services(start_camera, video, numbered):
    pairs = [np.hstack([numbered(i), numbered(50 - i)]) for i in range(50)]
    camera = start_camera(
        "opencv_camera",
        source=video(pairs),
        side_by_side=True,
        autostart=False,
        image_height=24,
        image_width=32,
    )
    left, right = camera.images["head_left"], camera.images["head_right"]
    assert camera.state() == "unconfigured"
    assert not camera.change("ACTIVATE")
    assert camera.change("CONFIGURE") and camera.state() == "inactive"
    camera.wait_heartbeat(NodeHeartbeat.BUSY, "not active")
    assert not left
    started = time.time_ns()
    assert camera.change("ACTIVATE") and camera.state() == "active"
    camera.wait(lambda: len(left) >= 10 and len(right) >= 10, "ten pictures a camera")
    camera.wait_heartbeat(NodeHeartbeat.READY)
    assert camera.heartbeat.role == "camera"
    assert camera.change("DEACTIVATE") and camera.state() == "inactive"
    time.sleep(0.3)
    number = len(left)
    time.sleep(0.5)
    assert len(left) == len(right) == number < 50

    # Which pictures, in which order, of which eye.
    fit = Fit(24, 32, False)
    for i, (a, b) in enumerate(zip(left, right, strict=True)):
        assert np.array_equal(image_to_array(a, "head_left", (24, 32)), fit(numbered(i)))
        assert np.array_equal(image_to_array(b, "head_right", (24, 32)), fit(numbered(50 - i)))
    assert (left[0].header.frame_id, right[0].header.frame_id) == (
        "head_left_optical_frame",
        "head_right_optical_frame",
    )
    assert np.array_equal(stamps(left), stamps(right))
    assert np.all(np.diff(stamps(left)) == 40_000_000)
    assert started - 1e9 < stamps(left)[0] < time.time_ns()
    infos = camera.infos["head_right"]
    assert np.array_equal(stamps(infos), stamps(right))
    assert (infos[0].height, infos[0].width, infos[0].k[0]) == (24, 32, 0.0)

    # It goes on where it was; then cleanup closes the file, and a new configuration starts it.
    assert camera.change("ACTIVATE")
    camera.wait(lambda: len(left) > number, "more pictures")
    assert np.array_equal(image_to_array(left[number], "l"), fit(numbered(number)))
    assert stamps(left)[number] > stamps(left)[number - 1]
    assert camera.change("DEACTIVATE") and camera.change("CLEANUP")
    assert camera.state() == "unconfigured"
    camera.wait_heartbeat(NodeHeartbeat.STARTING)
    left.clear()
    assert camera.change("CONFIGURE") and camera.change("ACTIVATE")
    camera.wait(lambda: left, "a picture")
    assert np.array_equal(image_to_array(left[0], "l"), fit(numbered(0)))
    assert camera.change("ACTIVE_SHUTDOWN") and camera.state() == "finalized"


def test_starts_by_itself_and_the_end_of_a_file_is_an_error(start_camera, video, numbered):
    # Longer than two processes may take to find each other.
    camera = start_camera(
        "opencv_camera",
        cameras=("wrist",),
        source=video([numbered(i % 50) for i in range(200)]),
        left_camera="wrist",
        camera_frame="optical_{camera}",
    )
    camera.wait_heartbeat(NodeHeartbeat.ERROR, "end after 200 pictures")
    assert camera.state() == "unconfigured"
    image = camera.images["wrist"][-1]
    assert (image.height, image.width, image.encoding) == (84, 84, "rgb8")
    assert image.header.frame_id == "optical_wrist"
    camera.wait(
        lambda: any(s.level == DiagnosticStatus.ERROR for s in camera.statuses), "diagnostics"
    )
    running = [s for s in camera.statuses if s.level == DiagnosticStatus.OK]
    values = {v.key: v.value for v in running[-1].values}
    assert float(values["rate, Hz"]) == pytest.approx(25.0, abs=4)
    assert values["dropped"] == "not told" and values["lifecycle state"] == "active"
    broken = camera.statuses[-1]
    assert "end after 200 pictures" in broken.message and broken.name == "/opencv_camera"
    # The lifecycle services still serve.
    before = len(camera.images["wrist"])
    assert camera.change("CONFIGURE") and camera.change("ACTIVATE")
    camera.wait(lambda: len(camera.images["wrist"]) > before, "pictures again")


def test_frozen_pictures_are_an_error_and_do_not_go_out(start_camera, video, numbered):
    numbers = [*range(10), *[10] * 40, *range(11, 31)]
    camera = start_camera(
        "opencv_camera",
        cameras=("head_left",),
        source=video([numbered(i) for i in numbers]),
        max_identical_frames=5,
        autostart=False,
        image_width=0,
        image_height=0,
    )
    assert camera.change("CONFIGURE") and camera.change("ACTIVATE")
    camera.wait_heartbeat(NodeHeartbeat.ERROR, "head_left: frozen")
    camera.wait(
        lambda: any(
            s.level == DiagnosticStatus.ERROR and "frozen" in s.message for s in camera.statuses
        ),
        "diagnostics of a frozen camera",
    )
    camera.wait_heartbeat(NodeHeartbeat.READY)
    camera.wait_heartbeat(NodeHeartbeat.ERROR, "end after 70 pictures")
    shown = [image_to_array(m, "head_left")[0, 0, 2] // 5 for m in camera.images["head_left"]]
    assert shown == [*range(10), *[10] * 4, *range(11, 31)]


@pytest.mark.parametrize(
    ("node", "parameters", "expected"),
    [
        (
            "opencv_camera",
            {"source": "/nonexistent.mp4"},
            "expected a camera or a file, found none",
        ),
        ("zed_camera", {}, "get_python_api.py"),
    ],
)
def test_a_source_that_is_not_there(start_camera, node, parameters, expected):
    camera = start_camera(node, ("head_left",), autostart=False, **parameters)
    assert not camera.change("CONFIGURE") and camera.state() == "unconfigured"
    camera.wait_heartbeat(NodeHeartbeat.ERROR, expected)
    camera.wait(lambda: camera.statuses and expected in camera.statuses[-1].message, "diagnostics")
    assert camera.statuses[-1].level == DiagnosticStatus.ERROR
    errors = camera.end()[2]
    assert errors.count(expected) == 1 and errors.count("\n") == 1, errors


def test_a_camera_of_zed_lost_and_found_again(start_camera, fake_zed):
    """The node's side of it, on the stand-in for the SDK."""
    camera = start_camera(
        "zed_camera",
        environment=fake_zed(codes=["SUCCESS"] * 250 + ["CAMERA_NOT_DETECTED"]),
        reopen_period=0.5,
        image_height=24,
        image_width=32,
    )
    camera.wait_heartbeat(NodeHeartbeat.READY)
    camera.wait_heartbeat(NodeHeartbeat.ERROR, "found CAMERA_NOT_DETECTED")
    right = camera.images["head_right"]
    before = len(right)
    camera.wait(lambda: len(right) > before + 5, "pictures of the camera that is back")
    picture = image_to_array(right[0], "head_right", (24, 32))
    assert picture[0, 0, :2].tolist() == [77, 200]
    # Stamps are the camera's: system time, of both eyes the same, 20 ms apart or a little more.
    left = camera.images["head_left"]
    number = min(len(left), len(right))
    assert np.array_equal(stamps(left)[:number], stamps(right)[:number])
    assert np.all(np.diff(stamps(right)) >= 19_900_000)
    assert abs(stamps(right)[-1] - time.time_ns()) < 5e9
    info = camera.infos["head_right"][0]
    assert np.allclose(info.p, [25, 0, 15.5, -3, 0, 25, 11.5, 0, 0, 0, 1, 0])


def test_a_silent_camera_is_an_error_that_passes(start_camera, fake_zed):
    codes = ["SUCCESS"] * 50 + ["CAMERA_REBOOTING"] * 200 + ["SUCCESS"]
    camera = start_camera(
        "zed_camera", environment=fake_zed(codes=codes), max_frame_age=0.2, autostart=False
    )
    assert camera.change("CONFIGURE") and camera.change("ACTIVATE")
    camera.wait_heartbeat(NodeHeartbeat.READY)
    camera.wait_heartbeat(NodeHeartbeat.ERROR, "expected a picture within 0.2 s, found none for")
    assert camera.state() == "active"
    camera.wait_heartbeat(NodeHeartbeat.READY)


def test_stamps_of_a_live_camera_in_simulated_time(start_camera, fake_zed):
    camera = start_camera("zed_camera", environment=fake_zed(), use_sim_time=True)
    clock = camera.node.create_publisher(Clock, "/clock", qos.CLOCK)
    images = camera.images["head_left"]

    def seen():
        clock.publish(Clock(clock=Time(sec=100)))
        return images and images[-1].header.stamp.sec > 0

    camera.wait(seen, "a picture stamped by the clock")
    # As far before now as the picture is old.
    assert stamps(images)[-1] == pytest.approx(100e9, abs=1e9)
    assert stamps(images)[-1] < 100e9
