"""Videos with known pictures, and the real node in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image

from resfit_interfaces.msg import NodeHeartbeat
from resfit_ros import qos

DOMAIN_ID = 90
FAKE_SDK = Path(__file__).parent / "fake_sdk"
HEIGHT, WIDTH, FPS = 48, 64, 25


def numbered_picture(number, height=HEIGHT, width=WIDTH):
    """(H, W, 3) RGB: a gradient that no mirroring or swap of colours leaves as it is."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 4, columns * 3, np.full_like(rows, 5 * number)], 2).astype(np.uint8)


def write_video(path, pictures, fps=FPS):
    """Lossless, of RGB pictures."""
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), fps, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return str(path)


@pytest.fixture
def numbered():
    return numbered_picture


@pytest.fixture
def video(tmp_path):
    """Called with pictures: the path of a video of them."""
    return lambda pictures, fps=FPS: write_video(tmp_path / "video.avi", pictures, fps)


class Camera:
    """A camera node and what it says. Messages are kept by topic."""

    def __init__(self, name, environment, cameras, parameters):
        self._ended = None
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN_ID)
        self.node = rclpy.create_node("viewer", context=self.context)
        self.images, self.infos = defaultdict(list), defaultdict(list)
        self.heartbeats, self.statuses = [], []
        for camera in cameras:
            for kind, topic, messages in (
                (Image, "image_raw", self.images[camera]),
                (CameraInfo, "camera_info", self.infos[camera]),
            ):
                self.node.create_subscription(
                    kind, f"cameras/{camera}/{topic}", messages.append, qos.SENSOR
                )
        self.node.create_subscription(
            NodeHeartbeat, "heartbeat", self.heartbeats.append, qos.HEARTBEAT
        )
        self.node.create_subscription(
            DiagnosticArray,
            "/diagnostics",
            lambda message: self.statuses.extend(message.status),
            qos.DIAGNOSTICS,
        )
        self._change = self.node.create_client(ChangeState, f"{name}/change_state")
        self._get = self.node.create_client(GetState, f"{name}/get_state")
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        command = [sys.executable, "-m", f"resfit_cameras.{name}", "--ros-args"]
        for parameter, value in parameters.items():
            command += ["-p", f"{parameter}:={value}"]
        self.process = subprocess.Popen(
            command,
            env=os.environ
            | {"ROS_DOMAIN_ID": str(DOMAIN_ID), "OMP_NUM_THREADS": "1"}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def heartbeat(self):
        return self.heartbeats[-1]

    def wait(self, condition, what, timeout=30.0):
        end = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < end, f"expected {what}"
            time.sleep(0.005)

    def wait_heartbeat(self, state, text=""):
        self.wait(
            lambda: (
                self.heartbeats and self.heartbeat.state == state and text in self.heartbeat.message
            ),
            f"a heartbeat of state {state} with {text!r}, found {self.heartbeats[-1:]}",
        )

    def _call(self, client, request):
        assert client.wait_for_service(30.0)
        future = client.call_async(request)
        self.wait(future.done, "an answer")
        return future.result()

    def change(self, transition):
        """Success of TRANSITION_<transition>, once this process hears all that the node says."""
        topics = [f"cameras/{camera}/image_raw" for camera in self.images]
        self.wait(
            lambda: self.heartbeats and all(map(self.node.count_publishers, topics)), "topics"
        )
        request = ChangeState.Request()
        request.transition.id = getattr(Transition, f"TRANSITION_{transition}")
        return self._call(self._change, request).success

    def state(self):
        return self._call(self._get, GetState.Request()).current_state.label

    def end(self):
        """Exit code, stdout and stderr after SIGINT; the same ones when asked again."""
        if self._ended is not None:
            return self._ended
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        output, errors = self.process.communicate(timeout=30)
        self._executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
        self._ended = self.process.returncode, output, errors
        return self._ended


@pytest.fixture
def start_camera():
    """Called with a node's name and parameters; the node must end well by a signal."""
    running = []

    def start(name, cameras=("head_left", "head_right"), environment=None, **parameters):
        running.append(Camera(name, environment or {}, cameras, parameters))
        return running[-1]

    yield start
    for camera in running:
        code, output, errors = camera.end()
        assert code == 0, errors
        assert "Traceback" not in output + errors, errors


@pytest.fixture
def fake_zed(tmp_path):
    """Called with what the fake SDK is to play; returns the environment for a process."""

    def play(**script):
        file = tmp_path / "zed.json"
        file.write_text(json.dumps(script))
        path = f"{FAKE_SDK}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        return {"FAKE_ZED": str(file), "PYTHONPATH": path}

    return play
