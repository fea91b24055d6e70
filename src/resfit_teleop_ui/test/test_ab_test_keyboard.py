"""A blind A/B test at a keyboard, before the supervisor's services."""

import contextlib
import os
import pty
from pathlib import Path

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from resfit_interfaces.msg import ActionCommand, EpisodeState, PolicyWeights
from resfit_rl.ab_test import verify
from resfit_rl.agent import (
    Normaliser,
    ResidualPolicy,
    load_agent_config,
    read_policy_metadata,
    save_policy,
)
from resfit_rl.tasks import get_task
from resfit_ros import conversions, qos

CONFIG = Path(__file__).parents[3] / "config/agents/cpu.yaml"
TASK = get_task("square")
BASE = "scripted:square:1"
WAIT = 200.0  # s for what imports torch or draws a report, on a machine that does much else


@pytest.fixture
def policy(supervisor):
    """The policy node, as far as the test hears of it."""

    class PolicyNode:
        def __init__(self):
            node = supervisor.node
            self.weights = []
            node.create_subscription(
                PolicyWeights, "policy_weights", self.weights.append, qos.LATCHED
            )
            self._diagnostics = node.create_publisher(
                DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS
            )
            self._commands = node.create_publisher(ActionCommand, "action_command", qos.EVENT)

        def wait_for(self, version):
            supervisor.wait_until(
                lambda: self.weights and self.weights[-1].version == version,
                f"weights of version {version}",
            )

        def tell(self, version, noise="none"):
            values = {"policy_version": version, "noise": noise, "base_policy": BASE}
            now = supervisor.node.get_clock().now().to_msg()
            self._diagnostics.publish(
                conversions.diagnostics(now, "/policy", DiagnosticStatus.OK, "ready", values)
            )

        def act(self, version):
            episode_id = supervisor.state.episode_id
            self._commands.publish(ActionCommand(episode_id=episode_id, policy_version=version))

    return PolicyNode()


@pytest.fixture
def start(start_process, tmp_path):
    opened = []
    spec = TASK.agent_spec((84, 84))
    residual = ResidualPolicy.initial(load_agent_config(CONFIG), spec, Normaliser.from_spec(spec))
    for parameter in residual.actor.parameters():
        parameter.add_(torch.ones_like(parameter))
    weights = tmp_path / "weights.safetensors"
    save_policy(residual, weights, 7, TASK.name, TASK.implementation, BASE)

    def start(**changes):
        master, slave = pty.openpty()
        opened.extend((master, slave))
        parameters = {
            **{"task": "square", "base_policy": "scripted", "policy_b": f"weights:{weights}"},
            **{"run_dir": tmp_path / "test", "agent_config": CONFIG, "max_rounds": 1},
        } | changes
        arguments = [
            part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")
        ]
        labeler = start_process(
            "resfit_teleop_ui.ab_test_keyboard",
            ["--ros-args", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        labeler.read_from(master)
        labeler.press = lambda keys: os.write(master, keys.encode())
        return labeler

    yield start
    for file_descriptor in opened:
        os.close(file_descriptor)


def test_a_test_at_the_keyboard(supervisor, policy, start, tmp_path):
    labeler = start()
    labeler.wait_for("> round 1, first; space to roll out", timeout=WAIT)
    policy.wait_for(1)
    at = 0

    def space_until(pattern):
        """Diagnostics may take a moment to arrive."""
        nonlocal at
        for _ in range(20):
            labeler.press(" ")
            with contextlib.suppress(AssertionError):
                at = labeler.wait_for(pattern, at, timeout=1.0)
                return
        raise AssertionError(f"expected {pattern!r} in {labeler.output[at:]!r}")

    def roll_out(version, acting=None):
        """The request for an episode in which the weights of `acting` act."""
        policy.wait_for(version)
        policy.tell(version)
        before = len(supervisor.calls)
        space_until(r"> episode \d+ started")
        policy.act(version if acting is None else acting)
        return supervisor.calls[before]

    # Not before the policy node has the weights of this turn, and acts without noise.
    space_until(r"> not yet: policy node: base_policy: expected .*, found nothing")
    policy.tell(1, noise="explore")
    space_until("noise: expected none, found explore")
    assert not supervisor.calls

    # A rollout that other weights acted in, and one that was aborted, are repeated.
    first = roll_out(1, acting=5)
    assert first.use_seed
    labeler.press("s")
    at = labeler.wait_for(r"expected commands of version 1 only, found \[5\]", at)
    assert roll_out(1).seed == first.seed
    labeler.press("r")
    at = labeler.wait_for("> round 1, first: aborted, to be repeated", at)

    # A discarded round: another scene, other weights.
    roll_out(1)
    labeler.press("s")
    at = labeler.wait_for("> next is round 1, second", at)
    labeler.press("d")
    at = labeler.wait_for("discard this round, both rollouts", at)
    labeler.press("y")
    at = labeler.wait_for("> round 1 discarded; next is round 2, first", at)
    second = roll_out(3)
    assert second.seed != first.seed

    # And a whole one: time limit is a failure, the key s a success.
    supervisor.finish(EpisodeState.OUTCOME_TIMEOUT, 300)
    at = labeler.wait_for("> next is round 2, second", at)
    assert "A " not in labeler.output.replace("A/B", "")
    assert roll_out(4).seed == second.seed
    labeler.press("s")
    at = labeler.wait_for(r"> round 2: A \w+, B \w+, [AB] was first; so far A \d, B \d of 1;", at)
    labeler.press("q")
    assert labeler.exit_code(WAIT) == 0

    found = verify(tmp_path / "test")
    (round_,) = found.rounds
    assert found.discarded == 1 and found.ended == "max_rounds 1 reached"
    assert (round_.pair if round_.first == "a" else round_.pair[::-1]) == (False, True)
    assert (tmp_path / "test/report.md").is_file()
    # The node was given each policy under a name that does not tell which it is.
    names = {Path(message.path).name for message in policy.weights}
    assert names == {f"policy_v00000{version}.safetensors" for version in (1, 2, 3, 4)}
    for message in policy.weights:
        metadata = read_policy_metadata(message.path)
        assert metadata["version"] == message.version and metadata["base_policy"] == BASE


def test_what_cannot_be_compared_is_refused(start, tmp_path):
    labeler = start(policy_b="act")
    labeler.wait_for("parameter 'policy_b': expected base, run:DIR or weights:FILE", timeout=WAIT)
    assert labeler.exit_code() == 1
    assert not (tmp_path / "test/record.jsonl").exists()
