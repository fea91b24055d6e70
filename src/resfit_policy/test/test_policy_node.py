"""The real node in its own process, driven by a small robot driver of the test's own."""

import hashlib
import math
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState

from resfit_interfaces.msg import (
    ActionCommand,
    EpisodeState,
    ExecutedAction,
    NodeHeartbeat,
    PolicyWeights,
)
from resfit_policy.policy import Policy
from resfit_rl.agent import Normaliser, ResidualPolicy, load_agent_config, load_policy, save_policy
from resfit_rl.base_policies import load_base_policy
from resfit_rl.base_policies.act import ACTSize, NormalisedACT, save_act
from resfit_rl.control import ChunkSchedule
from resfit_rl.control.residual_action import noise_generator, residual_action
from resfit_rl.observation import Observation
from resfit_rl.replay import offline_episodes
from resfit_rl.tasks import assemble_state, get_task
from resfit_ros import conversions as c
from resfit_ros import qos

SQUARE = get_task("square")
SPEC = SQUARE.agent_spec((84, 84))
SCHEDULE = ChunkSchedule(10, 5)
AGENT = Path(__file__).parents[3] / "config/agents/cpu.yaml"
CONFIG = load_agent_config(AGENT)
PERIOD = 50_000_000  # ns
JOINTS = SQUARE.state_layout[1].joints


@dataclass
class Recorded:
    images: dict
    state: np.ndarray
    action: np.ndarray


def scene(index):
    """Raw sensor values of the `index`-th observation, and the observation they make."""
    rng = np.random.default_rng(index)
    images = {name: rng.integers(0, 256, (84, 84, 3), np.uint8) for name in SQUARE.cameras}
    joints = dict(zip(JOINTS, rng.normal(size=2), strict=True))
    pose = rng.normal(size=7)
    observation = Observation(images, assemble_state(SQUARE, joints, {"right": pose}))
    return images, joints, pose, observation


class Driver:
    """Publishes what a driver and a supervisor do; keeps what the policy publishes.

    The policy runs as a process, or, to spare its long start, on this driver's executor.
    """

    def __init__(self, log_file, *arguments, process=False):
        self.namespace = f"/test_{time.time_ns()}"
        words = ["--ros-args", "-r", f"__ns:={self.namespace}", *parameters(*arguments)]
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("driver", namespace=self.namespace, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.commands, self.heartbeats, self.diagnostics = [], [], []
        self._episodes, self._stamp = 0, 10 * PERIOD
        listen, publish = self.node.create_subscription, self.node.create_publisher
        listen(ActionCommand, "action_command", self.commands.append, qos.EVENT)
        listen(NodeHeartbeat, "heartbeat", self.heartbeats.append, qos.HEARTBEAT)
        listen(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.DIAGNOSTICS)
        self.images = {
            name: publish(Image, f"cameras/{name}/image_raw", qos.SENSOR) for name in SQUARE.cameras
        }
        self.joints = publish(JointState, "joint_states", qos.SENSOR)
        self.pose = publish(PoseStamped, "end_effectors/right/pose", qos.SENSOR)
        self.state = publish(EpisodeState, "episode_state", qos.LATCHED)
        self.executed = publish(ExecutedAction, "executed_action", qos.EVENT)
        self.weights = publish(PolicyWeights, "policy_weights", qos.LATCHED)
        self._log_file = log_file
        self.process = run_policy(log_file, words) if process else None
        self.policy = None if process else Policy(context=self.context, cli_args=words)
        if self.policy:
            self.executor.add_node(self.policy)
        self.until(lambda: self.heartbeats and self.pose.get_subscription_count())

    def _on_diagnostics(self, message):
        for status in message.status:
            if status.name.startswith(self.namespace):
                self.diagnostics.append((status, {v.key: v.value for v in status.values}))

    @property
    def log(self):
        return self._log_file.read_text()

    def until(self, condition, timeout=60.0):
        end = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < end, self.log
            assert self.process is None or self.process.poll() is None, self.log
            self.executor.spin_once(timeout_sec=0.02)
        return value

    def settle(self, seconds=0.3):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def until_heartbeat(self, state, text):
        self.heartbeats.clear()
        self.until(
            lambda: any(h.state == state and text in h.message for h in self.heartbeats), 10.0
        )

    def observe(self, stamp, index, skip="", **changes):
        """One observation; `changes` spoil it."""
        images, joints, pose, _ = scene(index)
        at = c.ns_to_stamp(stamp)
        for name, publisher in self.images.items():
            if name != skip:
                message = c.array_to_image(images[name], at, name)
                if name == SQUARE.cameras[0]:
                    message.encoding = changes.get("encoding", "rgb8")
                    if "size" in changes:
                        message = c.array_to_image(
                            np.zeros((*changes["size"], 3), np.uint8), at, ""
                        )
                publisher.publish(message)
        joints |= changes.get("joints", {})
        message = JointState(name=list(joints), position=list(joints.values()))
        message.header.stamp = at
        self.joints.publish(message)
        message = PoseStamped(pose=c.array_to_pose(pose))
        message.header.stamp = at
        self.pose.publish(message)

    def set_state(self, state, **values):
        message = EpisodeState(state=state, episode_id=self._episodes, task="square", seed=7)
        for name, value in values.items():
            setattr(message, name, value)
        self.state.publish(message)

    def start(self, index, **changes):
        """A new episode at its observation 0; its stamp."""
        self._episodes += 1
        self.commands.clear()
        self.set_state(EpisodeState.RESETTING)
        self.settle(0.1)
        self._stamp += 100 * PERIOD
        self.observe(self._stamp, index, **changes)
        self.set_state(EpisodeState.RUNNING, start_stamp=c.ns_to_stamp(self._stamp))
        return self._stamp

    def step(self, step, index, episode_id=None, **changes):
        """`step` is executed and leads to the next observation; its stamp."""
        self._stamp += PERIOD
        self.observe(self._stamp, index, **changes)
        message = ExecutedAction(episode_id=episode_id or self._episodes, step=step)
        message.header.stamp = c.ns_to_stamp(self._stamp)
        self.executed.publish(message)
        return self._stamp

    def command(self, step, stamp):
        """The command of a step, once it has come."""
        at = c.ns_to_stamp(stamp)

        def found():
            return [m for m in self.commands if (m.step, m.header.stamp) == (step, at)]

        (command,) = self.until(found, 10.0)
        assert command.episode_id == self._episodes
        return command

    def episode(self, length, first=0):
        """A whole lockstep episode of `length` steps; its commands."""
        commands = [self.command(0, self.start(first))]
        for step in range(length):
            commands.append(self.command(step + 1, self.step(step, first + step + 1)))
        self.set_state(EpisodeState.FINISHED, outcome=EpisodeState.OUTCOME_SUCCESS)
        return commands

    def announce(self, path, version, warm_up=False, task="square"):
        self.weights.publish(
            PolicyWeights(
                version=version,
                task=task,
                path=str(path),
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                warm_up=warm_up,
            )
        )

    def close(self):
        code = 0
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(20.0)
        else:
            self.policy.close()
            self.policy.destroy_node()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()
        assert code == 0, self.log


def run_policy(log_file, words):
    with log_file.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "resfit_policy.policy", *words],
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def parameters(*arguments):
    return [word for argument in arguments for word in ("-p", argument)]


class Log:
    """What nodes in this process wrote, in the place of a process's log file."""

    def __init__(self, capfd):
        self._capfd = capfd
        self._text = ""

    def read_text(self):
        self._text += self._capfd.readouterr().err
        return self._text


@pytest.fixture
def start_here(capfd):
    """Starts a policy in this process; its driver."""
    drivers = []

    def start(*arguments):
        drivers.append(Driver(Log(capfd), *arguments))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("policy")


@pytest.fixture(scope="module")
def act(folder):
    """Folder of a small ACT with random weights."""
    torch.manual_seed(0)
    size = ACTSize(
        chunk_size=20,
        vision_backbone="resnet18",
        replace_final_stride_with_dilation=False,
        dim_model=32,
        n_heads=2,
        dim_feedforward=32,
        n_encoder_layers=1,
        n_decoder_layers=1,
        dropout=0.0,
    )
    save_act(NormalisedACT(SPEC, size), SQUARE, folder / "act", {})
    return folder / "act"


@pytest.fixture(scope="module")
def base(act):
    return load_base_policy("act", SQUARE, act)


@pytest.fixture(scope="module")
def write_weights(folder, base):
    """Writes a residual of random weights that differ by version; the path."""

    def write(version, base_policy=None):
        normaliser = Normaliser(-np.ones(7), np.ones(7), np.zeros(9), np.ones(9))
        policy = ResidualPolicy.initial(CONFIG, SPEC, normaliser)
        generator = torch.Generator().manual_seed(version)
        for parameter in policy.actor.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        path = folder / f"policy_v{version}.safetensors"
        identity = base_policy or base.identity
        save_policy(policy, path, version, "square", SQUARE.implementation, identity)
        return path

    return write


@pytest.fixture(scope="module")
def driver(folder, act):
    arguments = ["task:=square", f"base_policy_path:={act}", "seed:=5"]
    driver = Driver(folder / "policy.log", *arguments, process=True)
    yield driver
    driver.close()


def relabelled(base, length, first=0):
    """Base actions that the same observations get as a demonstration."""
    observations = [scene(first + step)[3] for step in range(length + 1)]
    recorded = Recorded(
        {n: np.stack([o.images[n] for o in observations]) for n in SQUARE.cameras},
        np.stack([o.state for o in observations]),
        np.zeros((length + 1, 7), np.float32),
    )
    (episode,) = offline_episodes([recorded], base, SCHEDULE, task="square", implementation="")
    return episode.base_action


def test_each_observation_gets_its_command_with_the_base_action_of_relabelling(driver, base):
    commands = driver.episode(23)
    assert [m.step for m in commands] == list(range(24))
    np.testing.assert_allclose(
        [m.base_action for m in commands], relabelled(base, 23), rtol=0, atol=1e-5
    )
    for command in commands:
        assert command.policy_version == 0 and not np.any(command.residual_action)
        np.testing.assert_array_equal(command.action, command.base_action)
    driver.until(lambda: "episode 1: 24 commands; observation to command p50" in driver.log)
    driver.diagnostics.clear()
    _, values = driver.until(lambda: driver.diagnostics)[0]
    assert 0 < float(values["latency_ms_p50"]) <= float(values["latency_ms_max"])
    assert values["commands"] == "24" and values["policy_version"] == "0"


def test_pause_repetition_and_end(driver):
    start = driver.start(0)
    first = driver.command(0, start)
    driver.observe(start, 0)
    driver.until(lambda: len(driver.commands) == 2)
    assert driver.commands[1] == first
    driver.set_state(EpisodeState.PAUSED, start_stamp=c.ns_to_stamp(start))
    driver.settle()
    stamp = driver.step(0, 1)
    driver.observe(stamp, 1)
    driver.settle()
    assert len(driver.commands) == 2
    driver.set_state(EpisodeState.RUNNING, start_stamp=c.ns_to_stamp(start))
    driver.command(1, stamp)
    # The end is known before its observation has come.
    driver.set_state(EpisodeState.FINISHED, outcome=EpisodeState.OUTCOME_SAFETY_STOP)
    driver.settle()
    driver.command(2, driver.step(1, 2))
    # Between episodes a robot goes on sending.
    count = len(driver.commands)
    driver.observe(driver._stamp + PERIOD, 3)
    driver.settle()
    assert len(driver.commands) == count


def test_nothing_after_an_abort(driver):
    driver.command(0, driver.start(0))
    driver.set_state(EpisodeState.FINISHED, outcome=EpisodeState.OUTCOME_ABORTED)
    driver.settle()
    driver.step(0, 1)
    driver.settle()
    assert len(driver.commands) == 1


def test_nothing_after_the_supervisor_was_restarted(driver):
    driver.command(0, driver.start(0))
    driver.set_state(EpisodeState.IDLE)
    driver.settle()
    driver.step(0, 1)
    driver.settle()
    assert len(driver.commands) == 1


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"skip": "agentview"}, "camera agentview: no image for 1.0 s"),
        ({"size": (84, 80)}, "camera agentview: expected 84x84 pixels, found 80x84"),
        ({"encoding": "bgr8"}, "camera agentview: expected encoding rgb8, found 'bgr8'"),
        ({"joints": {JOINTS[0]: math.nan}}, f"joint {JOINTS[0]}: expected a position, found nan"),
    ],
)
def test_bad_observations_get_no_command_until_they_are_mended(driver, bad, error):
    driver.command(0, driver.start(0))
    stamp = driver.step(0, 1, **bad)
    driver.until_heartbeat(NodeHeartbeat.ERROR, error)
    driver.settle()
    assert len(driver.commands) == 1 and error in driver.log
    # The driver sends the observation again while it waits.
    driver.observe(stamp, 1)
    driver.command(1, stamp)
    driver.until_heartbeat(NodeHeartbeat.READY, "")


def test_a_clock_that_jumps_back(driver):
    driver.command(0, driver.start(0))
    driver.command(1, driver.step(0, 1))
    driver._stamp = 5 * PERIOD
    driver.observe(driver._stamp, 2)
    driver.until(lambda: "clock jumped back: " in driver.log)
    driver.step(0, 3)
    driver.settle()
    assert len(driver.commands) == 2
    driver.set_state(EpisodeState.FINISHED, outcome=EpisodeState.OUTCOME_ABORTED)
    driver.episode(2)


def test_weights_are_swapped_between_steps_and_bad_ones_kept_out(driver, base, write_weights):
    paths = {version: write_weights(version) for version in (1, 2, 5)}
    bad = write_weights(3)
    whole = bad.read_bytes()
    driver.announce(paths[1], 1, warm_up=True)
    driver.until(lambda: "weights version 1 taken over between episodes" in driver.log)
    commands = [driver.command(0, driver.start(0))]
    for step in range(12):
        if step == 2:
            driver.announce(paths[2], 2)
        elif step == 4:
            driver.until(lambda: "weights version 2 taken over at step 5" in driver.log)
            bad.write_bytes(whole[:-100])
            driver.announce(bad, 3)
            driver.until_heartbeat(NodeHeartbeat.READY, "truncated or corrupt")
            driver.diagnostics.clear()
            status, _ = driver.until(lambda: driver.diagnostics)[-1]
            assert "version 2 goes on" in status.message and status.level == status.WARN
        elif step == 6:
            driver.announce(write_weights(4, base_policy="act:other"), 4)
            driver.until_heartbeat(NodeHeartbeat.READY, "base_policy: expected")
            driver.announce(paths[5], 5, task="can")
            driver.until_heartbeat(NodeHeartbeat.READY, "expected task square, found 'can'")
        elif step == 8:
            driver.announce(paths[5], 5)
            driver.until(lambda: "weights version 5 taken over at step 9" in driver.log)
            driver.until_heartbeat(NodeHeartbeat.READY, "")
        commands.append(driver.command(step + 1, driver.step(step, step + 1)))
    versions = [m.policy_version for m in commands]
    assert versions == sorted(versions) and set(versions) == {1, 2, 5}
    assert versions[0] == 1 and versions[5] == 2 and versions[9:] == [5] * 4
    policies = {v: load_policy(paths[v], "square")[0] for v in paths}
    for step, command in enumerate(commands):
        version = command.policy_version
        mode = "warm_up" if version == 1 else "explore"
        base_action = np.asarray(command.base_action)
        residual, action = residual_action(
            policies[version],
            SPEC,
            scene(step)[3],
            base_action,
            mode,
            noise_generator(5, driver._episodes, step),
        )
        assert np.abs(residual).max() > 0
        np.testing.assert_allclose(command.residual_action, residual, atol=1e-5)
        np.testing.assert_allclose(command.action, action, atol=1e-5)


def test_evaluation_is_deterministic_and_begins_with_the_weights_of_the_run(
    folder, start_here, act, write_weights
):
    run = folder / "run"
    (run / "weights").mkdir(parents=True)
    path = write_weights(6).rename(run / "weights" / "policy_v000006.safetensors")
    driver = start_here(
        "task:=square",
        f"base_policy_path:={act}",
        "evaluation:=true",
        f"run_dir:={run}",
        f"agent_config:={AGENT}",
    )
    driver.until(lambda: "weights version 6 taken over" in driver.log)
    one, two = driver.episode(6), driver.episode(6)
    policy = load_policy(path, "square")[0]
    for step, (a, b) in enumerate(zip(one, two, strict=True)):
        assert a.action == b.action and a.policy_version == 6
        residual = policy.residual(scene(step)[3].images, scene(step)[3].state, a.base_action)
        np.testing.assert_allclose(a.residual_action, residual, atol=1e-5)


def test_real_time_gives_no_late_command_and_goes_on(start_here, act, base):
    driver = start_here(
        "task:=square",
        f"base_policy_path:={act}",
        "mode:=real_time",
        "action_deadline:=0.001",
        f"agent_config:={AGENT}",
    )
    driver.start(0)
    driver.until(lambda: "step 0: expected the chunk predicted from step 0" in driver.log)
    driver.settle()
    assert not driver.commands
    command = driver.command(1, driver.step(0, 1))
    np.testing.assert_allclose(command.base_action, relabelled(base, 1)[1], atol=1e-5)
    # Before there are weights: the noise of the warm-up.
    noise = np.random.default_rng([0, 1, 1]).uniform(-CONFIG.warmup_noise, CONFIG.warmup_noise, 7)
    np.testing.assert_allclose(command.residual_action, noise, atol=1e-6)
    assert command.policy_version == 0


def test_single_actions_need_no_schedule(folder, start_here):
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 7)).astype(np.float32)
    np.save(folder / "actions.npy", actions)
    path = folder / "actions.npy"
    driver = start_here("task:=square", "base_policy:=replayed", f"base_policy_path:={path}")
    assert "a chunk of 1 for each 1 steps, predicted 0 ahead" in driver.log
    for _ in range(2):
        commands = driver.episode(3)
        np.testing.assert_array_equal([m.action for m in commands], actions)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (["base_policy_path:=/nowhere"], "/nowhere"),
        (["mode:=fast"], "parameter 'mode': expected one of lockstep, real_time, found 'fast'"),
        (["base_policy_path:={act}", "image_width:=96"], r"expected \(84, 84, 3\), found \(84, 96"),
        (["base_policy_path:={act}", "lead:=15"], "lead: expected >= 0 and below"),
        (["base_policy_path:={act}", "replan_interval:=16"], r"<= 20, .* found 16 \+ 5"),
    ],
)
def test_wrong_configuration_is_refused(act, wrong, error):
    context = rclpy.Context()
    rclpy.init(context=context)
    words = ["--ros-args", *parameters("task:=square", *(w.format(act=act) for w in wrong))]
    try:
        with pytest.raises(ValueError, match=error):
            Policy(context=context, cli_args=words)
    finally:
        context.shutdown()


def test_wrong_configuration_is_one_line_and_exit_code_1(folder):
    log = folder / "wrong.log"
    assert run_policy(log, ["--ros-args", *parameters("task:=cube")]).wait(60.0) == 1
    (line,) = log.read_text().splitlines()
    assert line.startswith("error: task: expected one of can, square")
    assert line.endswith("found 'cube'")
