import hashlib
import os
import signal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rclpy
import yaml
from std_srvs.srv import Trigger

from resfit_interfaces.msg import EpisodeStored, LearnerStatus, NodeHeartbeat, PolicyWeights
from resfit_rl.agent import load_agent_config, load_policy
from resfit_rl.episode_store import Episode, EpisodeStore
from resfit_rl.learning import Learner
from resfit_rl.tasks import get_task
from resfit_ros import qos

TASK = get_task("square")
SIZE = (24, 32)
BASE = "scripted:square:1"
CPU = Path(__file__).parents[3] / "config" / "agents" / "cpu.yaml"


@pytest.fixture
def agent_config(tmp_path):
    values = yaml.safe_load(CPU.read_text())
    values |= {"batch_size": 8, "warmup_steps": 10, "critic_warmup_updates": 5, "utd_ratio": 2}
    path = tmp_path / "agent.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def episode(episode_id, length):
    rng = np.random.default_rng(episode_id)
    return Episode(
        task="square",
        implementation=TASK.implementation,
        base_policy=BASE,
        episode_id=episode_id,
        seed=0,
        outcome="success",
        reward=1.0,
        done=True,
        images={
            name: rng.integers(0, 256, (length + 1, *SIZE, 3), np.uint8) for name in TASK.cameras
        },
        state=rng.normal(size=(length + 1, 9)).astype(np.float32),
        base_action=rng.uniform(-1, 1, (length + 1, 7)).astype(np.float32),
        executed_action=rng.uniform(-1, 1, (length, 7)).astype(np.float32),
        policy_version=np.zeros(length, np.int64),
        stamps=np.arange(length + 1, dtype=np.int64),
    )


class Run:
    def __init__(self, graph, run_dir, agent_config):
        self.graph = graph
        self.run_dir = run_dir
        self.store = EpisodeStore(run_dir)
        self._agent_config = agent_config
        self._hint = graph.node.create_publisher(EpisodeStored, "episode_stored", qos.EVENT)
        self.weights = graph.listen(PolicyWeights, "policy_weights", qos.LATCHED)
        self.status = graph.listen(LearnerStatus, "learner_status", qos.LATCHED)

    def start(self, **parameters):
        values = {
            "task": "square", "run_dir": self.run_dir, "agent_config": self._agent_config,
            "base_policy": "scripted", "image_width": SIZE[1], "image_height": SIZE[0],
        }  # fmt: skip
        return self.graph.start("learner", **(values | parameters))

    def write(self, episode_id, length):
        self.store.write(episode(episode_id, length))
        self._hint.publish(EpisodeStored(episode_id=episode_id))

    def wait_for_updates(self, updates):
        self.graph.wait(
            lambda: (
                self.status
                and self.status[-1].updates == updates
                and self.status[-1].phase == "waiting"
            )
        )
        # The weights published then, and the checkpoint.
        self.graph.wait(
            lambda: (self.run_dir / "checkpoints" / f"checkpoint_{updates:09d}.pt").exists()
        )
        self.graph.spin(0.2)


@pytest.fixture
def run(graph, tmp_path, agent_config):
    return Run(graph, tmp_path / "run", agent_config)


def refused(process):
    assert process.wait(120) == 1
    lines = [line for line in process.log().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in process.log()
    return lines[0]


def test_it_learns_from_stored_episodes_and_resumes_after_sigkill(graph, run):
    process = run.start()
    graph.wait(lambda: run.weights)
    first = run.weights[0]
    assert (first.version, first.task, first.warm_up) == (1, "square", True)
    run.graph.wait(lambda: run.status and run.status[-1].phase == "warm_up")
    graph.wait_for_state(NodeHeartbeat.READY)

    run.write(1, 8)
    graph.wait(lambda: run.status[-1].environment_steps == 8)
    assert run.status[-1].updates == 0
    run.write(2, 12)
    # 10 of 20 steps are warm-up: 5 updates of the critic at once, then 2 a step.
    run.wait_for_updates(25)
    newest = run.weights[-1]
    assert not newest.warm_up and newest.version >= 2
    assert [m.version for m in run.weights] == list(range(1, newest.version + 1))
    data = Path(newest.path).read_bytes()
    assert hashlib.sha256(data).hexdigest() == newest.sha256 and len(data) == newest.size_bytes
    policy, version = load_policy(newest.path, "square", TASK.agent_spec(SIZE))
    assert version == newest.version
    observation = episode(1, 1)
    images = {name: frames[0] for name, frames in observation.images.items()}
    assert policy.residual(images, observation.state[0], observation.base_action[0]).any()
    status = run.status[-1]
    assert (status.episodes, status.environment_steps, status.updates_owed) == (2, 20, 0)
    assert np.isfinite([status.critic_loss, status.actor_loss, status.updates_per_second]).all()
    for text in ("episode 2 taken in: success, 12 steps", "25 in all", "weights version 2"):
        assert text in process.log()

    process.send_signal(signal.SIGKILL)
    process.wait()
    run.store.write(episode(3, 6))
    run.weights.clear()
    run.status.clear()
    again = run.start()
    graph.wait(lambda: run.weights)
    assert run.weights[0].version == newest.version and not run.weights[0].warm_up
    assert run.weights[0].sha256 == newest.sha256
    run.wait_for_updates(37)
    assert run.weights[-1].version == newest.version + 1
    assert "25 updates, 2 episodes, 20 steps" in again.log()
    assert "episode 2 taken in" not in again.log()

    again.send_signal(signal.SIGINT)
    assert again.wait(30) == 0


def test_it_answers_while_it_learns_and_saves_at_shutdown(graph, run):
    process = run.start(publish_every_updates=10)
    graph.wait_for_state(NodeHeartbeat.READY)
    run.write(1, 700)
    graph.wait(lambda: run.status and run.status[-1].updates > 5)
    graph.heartbeats.clear()
    client = graph.node.create_client(Trigger, "learner/save_checkpoint")
    assert client.wait_for_service(timeout_sec=20)
    future = client.call_async(Trigger.Request())
    graph.wait(future.done)
    assert future.result().success and Path(future.result().message).exists()
    graph.spin(2.0)
    stamps = [rclpy.time.Time.from_msg(m.header.stamp).nanoseconds for m in graph.heartbeats]
    assert len(stamps) > 5 and max(b - a for a, b in pairwise(stamps)) < 1e9
    assert run.status[-1].updates_owed > 0  # It was learning all the while.
    assert len({m.version for m in run.weights}) >= 3
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    saved = max((run.run_dir / "checkpoints").iterdir())
    assert f"saved {saved}" in process.log()


def test_what_it_cannot_start_from_is_one_line(graph, run, agent_config):
    spec = TASK.agent_spec(SIZE)
    config = load_agent_config(agent_config)
    checkpoint = Learner(run.run_dir, TASK, BASE, config, spec, [], seed=0).save_checkpoint()
    other = agent_config.with_name("other.yaml")
    other.write_text(agent_config.read_text().replace("gamma: 0.99", "gamma: 0.9"))
    line = refused(run.start(agent_config=other))
    assert f"{checkpoint}: config.gamma: expected 0.9, found 0.99" in line
    os.truncate(checkpoint, checkpoint.stat().st_size // 2)
    line = refused(run.start())
    assert f"expected a good checkpoint, found none: {checkpoint}" in line
