"""The nodes that watch, as processes, beside a graph that the test plays."""

import base64
import http.client
import json
import os
import re
import socket
import subprocess

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import WrenchStamped
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from resfit_interfaces.msg import ActionCommand, EpisodeState, ExecutedAction, SafetyStatus
from resfit_rl.robots.vega import COMMANDED_JOINTS
from resfit_rl.simulation.vega.model import start_posture
from resfit_ros import qos
from resfit_ros.conversions import ns_to_stamp
from resfit_viewing.observer import CANNOT_WATCH

TASK = "woolly_ball_pnp"
# Of a person who is logged in over the network.
NO_SCREEN = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}


class Steps:
    """Publishes one step of Vega's after the other."""

    def __init__(self, graph):
        publisher = graph.node.create_publisher
        self._joints = publisher(JointState, "joint_states", qos.SENSOR)
        self._wrench = publisher(WrenchStamped, "wrenches/right", qos.SENSOR)
        self._image = publisher(Image, "cameras/head_left/image_raw", qos.SENSOR)
        self._command = publisher(ActionCommand, "action_command", qos.EVENT)
        self._executed = publisher(ExecutedAction, "executed_action", qos.EVENT)
        self._safety = publisher(SafetyStatus, "safety_status", qos.EVENT)
        self._episode = publisher(EpisodeState, "episode_state", qos.LATCHED)
        self.step = 0

    def episode(self, state, **fields):
        message = EpisodeState(task=TASK, state=state, episode_id=1, **fields)
        message.header.stamp = self._stamp()
        self._episode.publish(message)

    def _stamp(self, step=None):
        return ns_to_stamp(10**18 + (self.step if step is None else step) * 50_000_000)

    def publish(self):
        posture = start_posture()
        joints = JointState(name=list(posture), position=list(posture.values()))
        wrench = WrenchStamped()
        wrench.wrench.force.z = 20.0
        wrench.header.frame_id = "right_force_torque"
        image = Image(height=4, width=4, encoding="rgb8", step=12)
        image.data.frombytes(bytes(48))
        base = [posture[joint] for joint in COMMANDED_JOINTS]
        base[3] += 0.1
        action = list(base)
        action[3] += 0.05
        command = ActionCommand(
            episode_id=1,
            step=self.step,
            base_action=base,
            action=action,
            residual_norm=0.25,
            latency=0.004,
        )
        safety = SafetyStatus(
            motion_allowed=False,
            reason="wrist right: force 61 N",
            wrist=["right", "left"],
            force=[61.0, 1.0],
            max_force=[50.0, 50.0],
            torque=[0.1, 0.1],
            max_torque=[10.0, 10.0],
        )
        for message, topic in (
            (wrench, self._wrench),
            (joints, self._joints),
            (image, self._image),
            (safety, self._safety),
            (command, self._command),
        ):
            message.header.stamp = self._stamp()
            topic.publish(message)
        executed = ExecutedAction(episode_id=1, step=self.step, action=action)
        executed.header.stamp = self._stamp(self.step + 1)
        self._executed.publish(executed)
        self.step += 1


def test_markers_transforms_and_description(graph):
    markers = graph.listen(MarkerArray, "markers", qos.EVENT)
    transforms = graph.listen(TFMessage, "/tf", 100)
    descriptions = graph.listen(String, "robot_description", qos.LATCHED)
    told = graph.listen(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
    graph.start("markers", NO_SCREEN, task=TASK, scene=False)
    steps = Steps(graph)
    kinds = {"base_action", "residual", "executed_action", "force", "safety"}

    def complete():
        return any(kinds <= {m.ns for m in array.markers} for array in markers)

    graph.wait_until(complete, "markers of all kinds", each=steps.publish)
    newest = {(m.ns, m.id): m for m in markers[-1].markers}
    assert {m.header.frame_id for m in newest.values()} == {"world"}
    text = next(m for m in newest.values() if m.ns == "safety")
    assert text.text.startswith("STOP: wrist right: force 61 N")
    drawn = [m for m in newest.values() if m.ns == "base_action" and m.action == Marker.ADD]
    assert len(drawn) == 1  # the left arm was asked for nothing
    graph.wait_until(lambda: descriptions and transforms and told, "description and transforms")
    assert descriptions[0].data.startswith("<robot")
    names = {t.child_frame_id for t in transforms[-1].transforms}
    links = set(re.findall(r'<link name="([^"]+)"', descriptions[0].data))
    assert links | {"right_force_torque", "head_left_optical_frame"} <= names
    assert {t.header.frame_id for t in transforms[-1].transforms} == {"world"}
    (status,) = told[-1].status
    assert (status.name, status.level) == (f"{graph.namespace}/markers", DiagnosticStatus.OK)


def test_an_episode_of_another_clock_is_recorded_whole(graph, tmp_path):
    """Its observation 0 comes before the word that it runs, and its last command after its end."""
    graph.start("episode_mcap", NO_SCREEN, task=TASK, run_dir=tmp_path, terminal_wait=0.5)
    steps = Steps(graph)
    folder = tmp_path / "mcap"
    graph.wait_until(
        lambda: (
            graph.node.count_subscribers(f"{graph.namespace}/episode_state")
            and graph.node.count_subscribers(f"{graph.namespace}/joint_states")
        ),
        "the recorder's subscriptions",
    )
    graph.wait_until(lambda: steps.step > 5, "time to connect", each=steps.publish)
    steps.episode(EpisodeState.RESETTING)
    graph.wait_until(lambda: steps.step > 10, "steps", each=steps.publish)
    start = steps.step
    stamp = steps._stamp()
    steps.publish()
    steps.episode(EpisodeState.RUNNING, start_stamp=stamp)
    graph.wait_until(lambda: steps.step > start + 5, "steps", each=steps.publish)
    steps.episode(EpisodeState.FINISHED, outcome=EpisodeState.OUTCOME_SUCCESS, end_step=5)
    file = folder / "episode_000001.mcap"
    graph.wait_until(file.exists, "the episode's file")

    from mcap.reader import make_reader

    with file.open("rb") as opened:
        counts = make_reader(opened).get_summary()
    found = {
        counts.channels[i].topic.removeprefix(graph.namespace): n
        for i, n in counts.statistics.channel_message_counts.items()
    }
    assert found["/joint_states"] == found["/cameras/head_left/image_raw"] == steps.step - start
    assert found["/episode_state"] == 2


def test_rerun_writes_a_file(graph, tmp_path):
    file = tmp_path / "watch.rrd"
    process, log = graph.start("rerun_view", NO_SCREEN, task=TASK, scene=False, to=file)
    steps = Steps(graph)
    told = graph.listen(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)

    def heard():
        values = [v for a in told for s in a.status for v in s.values if v.key == "messages"]
        return values and int(values[-1].value) > 100

    steps.episode(EpisodeState.RUNNING)
    graph.wait_until(heard, "messages heard", each=steps.publish)
    process.terminate()
    assert process.wait(20) == 0, log.read_text()
    printed = subprocess.run(
        ["rerun", "rrd", "print", str(file)], capture_output=True, text=True, timeout=60
    ).stdout
    for entity in (
        "/cameras/head_left",
        "/world/bodies/R_arm_l4",
        "/world/base_action/right",
        "/world/residual/right",
        "/world/executed_action/right",
        "/world/force/right",
        "/plots/residual/step",
        "/plots/latency/command",
        "/plots/force/right",
        "/state",
        "/events",
    ):
        assert entity in printed, entity


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("spawn", "viewer rerun: expected a screen, found none: give a file (rerun_to:=watch.rrd)"),
        ("watch.mp4", "parameter 'to': expected spawn, an address rerun+http://"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_no_exit_code_that_ends_a_graph(graph, to, said):
    process, log = graph.start("rerun_view", NO_SCREEN, task=TASK, scene=False, to=to)
    assert process.wait(60) == CANNOT_WATCH
    error, after = log.read_text().splitlines()[-2:]
    assert error.startswith(f"error: {said}")
    assert after == "the graph goes on unwatched"


def test_without_rerun_one_line_says_what_to_install(graph, tmp_path):
    (tmp_path / "rerun.py").write_text("raise ImportError('not installed')")
    environment = NO_SCREEN | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    process, log = graph.start("rerun_view", environment, task=TASK, scene=False)
    assert process.wait(60) == CANNOT_WATCH
    assert "pip install rerun-sdk" in log.read_text()


def test_foxglove_server_tells_its_topics(graph):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _, log = graph.start("foxglove_view", NO_SCREEN, task=TASK, port=port)
    graph.wait_until(lambda: f"open ws://127.0.0.1:{port}" in log.read_text(), "the server")
    topics = _advertised(port)
    for topic, schema in (
        ("cameras/head_left/image_raw", "sensor_msgs/msg/Image"),
        ("markers", "visualization_msgs/msg/MarkerArray"),
        ("robot_description", "std_msgs/msg/String"),
        ("action_command", "resfit_interfaces/msg/ActionCommand"),
    ):
        channel = topics[f"{graph.namespace}/{topic}"]
        assert (channel["schemaName"], channel["encoding"]) == (schema, "cdr")
        assert channel["schemaEncoding"] == "ros2msg"
    # A second one finds the port taken.
    process, log = graph.start("foxglove_view", NO_SCREEN, task=TASK, port=port)
    assert process.wait(60) == CANNOT_WATCH
    assert "parameter 'port': expected a free one" in log.read_text()


def _advertised(port):
    """topic -> channel, as a Foxglove client is told at first."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": "foxglove.sdk.v1",
    }
    connection.request("GET", "/", headers=headers)
    response = connection.getresponse()
    assert response.status == 101, response.status
    stream = response.fp
    topics = {}
    while "robot_description" not in " ".join(topics):
        head = stream.read(2)
        size = head[1] & 127
        if size >= 126:
            size = int.from_bytes(stream.read(2 if size == 126 else 8), "big")
        payload = stream.read(size)
        if head[0] & 15 == 1:  # a text frame
            message = json.loads(payload)
            if message.get("op") == "advertise":
                topics |= {channel["topic"]: channel for channel in message["channels"]}
    connection.close()
    return topics


def test_only_meshes_of_the_robot_leave_the_machine():
    from resfit_rl.tasks import get_task
    from resfit_viewing.foxglove_view import _mesh, _mesh_folder
    from resfit_viewing.robot import vega_urdf

    folder = _mesh_folder(get_task(TASK))
    address = re.search(r'filename="(file://[^"]+)"', vega_urdf())[1]
    assert len(_mesh(address, folder)) > 1000
    assert _mesh("file:///etc/passwd", folder) is None
    assert _mesh(f"{folder.as_uri()}/../../../../../../../etc/passwd", folder) is None
    assert _mesh(address, None) is None
