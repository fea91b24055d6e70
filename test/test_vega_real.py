"""The graph of the real Vega: its driver on a stand-in for the SDK, its camera on a video."""

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.clock import Clock, ClockType
from std_srvs.srv import Trigger

from resfit_interfaces.msg import EpisodeState, NodeHeartbeat
from resfit_interfaces.srv import LabelEpisode, StartEpisode
from resfit_rl.episode_store import EpisodeStore
from resfit_rl.robots.vega import COMMANDED_JOINTS
from resfit_rl.simulation.vega.model import start_posture
from resfit_ros import qos

VEGA_TESTS = Path(__file__).parents[1] / "src" / "resfit_vega" / "test"
LABELER = "the person"
STEPS = 60
ELBOW = COMMANDED_JOINTS.index("R_arm_j4")


def side_by_side_video(path, seconds, fps=30):
    """Pictures that all differ, left and right."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), fps, (64, 32))
    rows, columns = np.mgrid[:32, :64]
    for k in range(seconds * fps):
        writer.write(np.stack([rows * 7, columns * 3, np.full_like(rows, k % 251)], 2).astype("u1"))
    writer.release()


@pytest.fixture
def vega(tmp_path, monkeypatch):
    """The twin behind the stand-in for the SDK, which every process started from now on finds."""
    monkeypatch.syspath_prepend(str(VEGA_TESTS))
    from neighbours import FAKE_SDK, Robot

    robot = Robot(tmp_path / "shared")
    robot.place(R_arm_j4=-2.1)
    monkeypatch.setenv("FAKE_VEGA", str(tmp_path / "shared"))
    monkeypatch.setenv("PYTHONPATH", f"{FAKE_SDK}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    yield robot
    robot.end()
    sys.modules.pop("neighbours")


@pytest.mark.timeout(240)
def test_one_episode_of_the_real_robot(launch_sim, observer, vega, tmp_path, quick_agent):
    posture = np.array([start_posture()[joint] for joint in COMMANDED_JOINTS])
    actions = np.repeat(posture[None], STEPS, 0)
    actions[:, ELBOW] += 0.1 * (1 - np.cos(0.1 * np.arange(STEPS)))
    np.save(tmp_path / "actions.npy", actions.astype(np.float32))
    side_by_side_video(tmp_path / "video.avi", 150)
    run_dir = tmp_path / "run"
    cell = Path(__file__).parents[1] / "config" / "cells" / "vega_twin.yaml"

    states = observer.collect(EpisodeState, "episode_state", qos.LATCHED)
    beats = observer.node.create_publisher(NodeHeartbeat, "heartbeat", qos.HEARTBEAT)
    beat = NodeHeartbeat(role="labeler", session_id=LABELER, state=NodeHeartbeat.READY)
    observer.node.create_timer(
        0.2, lambda: beats.publish(beat), clock=Clock(clock_type=ClockType.STEADY_TIME)
    )
    graph = launch_sim(
        "robot:=real",
        f"cell:={cell}",
        "autostart:=true",
        "reset_speed:=0.5",
        "base_policy:=replayed",
        f"base_policy_path:={tmp_path / 'actions.npy'}",
        "residual:=false",
        "camera:=opencv",
        f"video:={tmp_path / 'video.avi'}",
        f"run_dir:={run_dir}",
        f"agent_config:={quick_agent}",
        "learner:=false",
        "image_height:=32",
        "image_width:=32",
        file="vega_rl.launch.py",
    )
    graph.wait_for(r"\[vega_driver-\d+\].*active: holding where it is", 60)
    graph.wait_for(r"\[opencv_camera-\d+\].*head_left, head_right", 60)

    def start():
        request = StartEpisode.Request(labeler_id=LABELER, use_seed=True, seed=3)
        return observer.call(StartEpisode, "start_episode", request)

    def state(wanted):
        return lambda: states and states[-1].state == wanted

    # Nobody has said that nobody is in reach.
    graph.wait_until(lambda: start().accepted, 60, "an episode that may start")
    graph.wait_until(state(EpisodeState.FINISHED), 20, "a reset that is refused")
    assert "expected a person's confirmation of the scene" in states[-1].reason
    assert abs(vega.positions[ELBOW] + 2.1) < 0.02

    assert observer.call(Trigger, "confirm_scene", Trigger.Request()).success
    graph.wait_until(lambda: start().accepted, 20, "an episode that starts")
    graph.wait_until(state(EpisodeState.RUNNING), 20, "a running episode")
    episode_id = states[-1].episode_id
    graph.wait_until(
        lambda: vega.positions[ELBOW] > posture[ELBOW] + 0.15, 30, "the elbow where it swings to"
    )
    request = LabelEpisode.Request(
        labeler_id=LABELER, episode_id=episode_id, label=LabelEpisode.Request.SUCCESS
    )
    request.step = 4294967295
    assert observer.call(LabelEpisode, "label_episode", request).accepted
    graph.wait_until(state(EpisodeState.FINISHED), 20, "the end of the episode")
    store = EpisodeStore(run_dir)
    graph.wait_until(store.list, 20, "an episode on disk")
    episode = store.read(episode_id)
    assert (episode.outcome, episode.reward) == ("success", 1.0) and len(episode) > 20
    # It swung as recorded, and was seen to; what came late was held.
    moved = episode.executed_action[:, ELBOW] - posture[ELBOW]
    assert moved.max() > 0.15 and np.abs(np.diff(moved)).max() < 0.03
    seen = episode.state[1:, ELBOW] - posture[ELBOW]
    np.testing.assert_allclose(seen[5:], moved[5:], atol=0.05)
    assert np.mean(np.diff(episode.stamps)) == pytest.approx(50e6, rel=0.05)
    assert {camera: p.shape[1:] for camera, p in episode.images.items()} == {
        "head_left": (32, 32, 3),
        "head_right": (32, 32, 3),
    }
    assert graph.interrupt() == 0 and graph.left_over() == []
    assert "Traceback" not in graph.log
