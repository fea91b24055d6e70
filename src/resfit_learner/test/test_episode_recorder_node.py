import os
import signal
import subprocess

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image, JointState

from resfit_interfaces.msg import (
    ActionCommand,
    EpisodeState,
    EpisodeStored,
    ExecutedAction,
    NodeHeartbeat,
)
from resfit_rl.episode_store import EpisodeStore
from resfit_rl.tasks import get_task
from resfit_ros import qos
from resfit_ros.conversions import array_to_image, array_to_pose, ns_to_stamp

TASK = get_task("square")
SIZE = (24, 32)
PERIOD = 50_000_000


class Driver:
    """Publishes what driver, policy and supervisor do, with numbers that tell episode and step."""

    def __init__(self, graph):
        def publisher(kind, topic, profile):
            return graph.node.create_publisher(kind, topic, profile)

        self._graph = graph
        self._cameras = {
            name: publisher(Image, f"cameras/{name}/image_raw", qos.SENSOR) for name in TASK.cameras
        }
        self._joints = publisher(JointState, "joint_states", qos.SENSOR)
        self._pose = publisher(PoseStamped, "end_effectors/right/pose", qos.SENSOR)
        self._command = publisher(ActionCommand, "action_command", qos.COMMAND)
        self._executed = publisher(ExecutedAction, "executed_action", qos.EVENT)
        self._state = publisher(EpisodeState, "episode_state", qos.LATCHED)
        self.stored = graph.listen(EpisodeStored, "episode_stored", qos.EVENT)

    def connected(self):
        publishers = [*self._cameras.values(), self._joints, self._pose]
        publishers += [self._command, self._executed, self._state]
        return all(p.get_subscription_count() for p in publishers)

    def image(self, camera, episode_id, step):
        value = np.arange(SIZE[0] * SIZE[1] * 3) * (2 + TASK.cameras.index(camera))
        return (value + episode_id + step).astype(np.uint8).reshape(*SIZE, 3)

    def observation(self, episode_id, step, size=SIZE):
        stamp = ns_to_stamp((1000 * episode_id + step) * PERIOD)
        for camera, publisher in self._cameras.items():
            image = self.image(camera, episode_id, step)[: size[0]]
            publisher.publish(array_to_image(image, stamp, camera))
        joints = JointState(name=list(TASK.state_layout[1].joints), position=[0.01 * step, -0.02])
        joints.header.stamp = stamp
        self._joints.publish(joints)
        pose = PoseStamped(pose=array_to_pose([step, 2, 3, 0, 0, 0, 1]))
        pose.header.stamp = stamp
        self._pose.publish(pose)
        return stamp

    def state(self, episode_id, state, **fields):
        message = EpisodeState(task="square", state=state, episode_id=episode_id, **fields)
        message.seed = 40 + episode_id
        message.start_stamp = ns_to_stamp(1000 * episode_id * PERIOD)
        self._state.publish(message)

    def run(self, episode_id, steps, outcome, lost=()):
        self.state(episode_id, EpisodeState.RESETTING)
        for step in range(steps + 1):
            stamp = self.observation(episode_id, step)
            if step:
                executed = ExecutedAction(episode_id=episode_id, step=step - 1)
                executed.action = [0.5 * (step - 1) / steps] * 7
                executed.header.stamp = stamp
                if step - 1 not in lost:
                    self._executed.publish(executed)
            else:
                self.state(episode_id, EpisodeState.RUNNING)
            command = ActionCommand(episode_id=episode_id, step=step, policy_version=3)
            command.base_action = [0.25 * step / steps] * 7
            command.action = command.base_action
            command.header.stamp = stamp
            self._command.publish(command)
            self._graph.spin(0.03)
        success = outcome == EpisodeState.OUTCOME_SUCCESS
        self.state(
            episode_id,
            EpisodeState.FINISHED,
            outcome=outcome,
            reward=float(success),
            done=outcome != EpisodeState.OUTCOME_TIMEOUT,
            end_step=steps,
        )


@pytest.fixture
def driver(graph):
    return Driver(graph)


def start(graph, driver, run_dir, **parameters):
    process = graph.start(
        "episode_recorder", task="square", run_dir=run_dir, base_policy="scripted",
        image_width=SIZE[1], image_height=SIZE[0], **parameters,
    )  # fmt: skip
    graph.wait(driver.connected)
    graph.wait_for_state(NodeHeartbeat.READY)
    return process


def test_finished_episodes_are_stored_as_they_were(graph, driver, tmp_path):
    run_dir = tmp_path / "run"
    store = EpisodeStore(run_dir)
    store.folder.mkdir(parents=True)
    (store.folder / ".episode_000001.safetensors.x.tmp").write_bytes(b"half")
    process = start(graph, driver, run_dir)
    assert list(store.folder.iterdir()) == []

    driver.run(1, 6, EpisodeState.OUTCOME_SUCCESS)
    graph.wait(lambda: driver.stored)
    episode = store.read(1)
    steps = np.arange(7)
    for camera in TASK.cameras:
        expected = np.stack([driver.image(camera, 1, step) for step in steps])
        np.testing.assert_array_equal(episode.images[camera], expected)
    np.testing.assert_allclose(episode.state[:, 0], steps)
    np.testing.assert_allclose(episode.state[:, 7], 0.01 * steps, rtol=1e-6)
    np.testing.assert_allclose(episode.base_action[:, 6], 0.25 * steps / 6, rtol=1e-6)
    np.testing.assert_allclose(episode.executed_action[:, 0], 0.5 * steps[:-1] / 6, rtol=1e-6)
    assert episode.policy_version.tolist() == [3] * 6
    assert episode.stamps.tolist() == [(1000 + step) * PERIOD for step in steps]
    assert (episode.seed, episode.outcome, episode.reward, episode.done) == (41, "success", 1, 1)
    message = driver.stored[0]
    assert (message.episode_id, message.steps, message.path) == (1, 6, str(store.path(1)))
    assert message.sha256 == store.list()[0].sha256

    # Thrown away, with a hole, and of no length: none is data. The next one is stored again.
    driver.run(2, 3, EpisodeState.OUTCOME_ABORTED)
    driver.run(3, 4, EpisodeState.OUTCOME_FAILURE, lost=[1])
    graph.wait(lambda: "episode 3" in process.log())
    assert "hole at step 1: no executed action" in process.log()
    driver.run(4, 3, EpisodeState.OUTCOME_TIMEOUT)
    graph.wait(lambda: len(driver.stored) == 2)
    assert store.ids() == [1, 4] and not store.read(4).done
    graph.wait_for_state(NodeHeartbeat.READY)

    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_a_bad_camera_is_an_error_until_it_is_good_again(graph, driver, tmp_path):
    start(graph, driver, tmp_path / "run")
    driver.observation(1, 0, size=(20, 32))
    graph.wait_for_state(NodeHeartbeat.ERROR, "expected 32x24 pixels, found 32x20")
    driver.observation(1, 1)
    graph.wait_for_state(NodeHeartbeat.READY)


def test_a_restart_after_the_end_says_what_was_lost(graph, driver, tmp_path):
    driver.state(5, EpisodeState.FINISHED, outcome=EpisodeState.OUTCOME_SUCCESS, end_step=3)
    process = start(graph, driver, tmp_path / "run")
    graph.wait(lambda: "episode 5 is not stored: the recorder was not there" in process.log())


def test_disk_full_is_waited_out_and_nothing_is_lost(graph, driver, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        process = start(graph, driver, disk / "run")
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(40_000))
        driver.run(1, 6, EpisodeState.OUTCOME_SUCCESS)
        graph.wait_for_state(NodeHeartbeat.ERROR, "episode 1 is kept in memory")
        assert "disk full: expected" in graph.heartbeats[-1].message
        assert driver.stored == [] and EpisodeStore(disk / "run").ids() == []
        ballast.unlink()
        graph.wait_for_state(NodeHeartbeat.READY)
        graph.wait(lambda: driver.stored)
        assert len(EpisodeStore(disk / "run").read(1)) == 6
        assert process.log().count("kept in memory") == 1  # Said once, tried often.
        process.kill()
        process.wait()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_another_runs_directory_and_a_second_recorder_are_refused(graph, driver, tmp_path):
    run_dir = tmp_path / "run"
    start(graph, driver, run_dir)
    for parameters, message in (
        ({"task": "can"}, "task: expected can, found square"),
        ({"task": "square"}, "expected one recorder, found another running"),
        ({"task": "cube"}, "found 'cube'"),
    ):
        process = graph.start(
            "episode_recorder", run_dir=run_dir, base_policy="scripted", **parameters
        )
        assert process.wait(60) == 1
        (line,) = [line for line in process.log().splitlines() if line]
        assert line.startswith("error: ") and message in line
