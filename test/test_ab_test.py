"""A blind A/B test on the running graph: base policy against base and residual."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resfit_rl.ab_test import verify
from resfit_rl.agent import Normaliser, ResidualPolicy, load_agent_config, save_policy
from resfit_rl.episode_store import EpisodeStore
from resfit_rl.tasks import get_task

CONFIG = Path(__file__).parents[1] / "config/agents/cpu.yaml"
SIZE = 48
TASK = get_task("can")


@pytest.fixture
def residual(tmp_path):
    """Weights whose residual is far from 0."""
    spec = TASK.agent_spec((SIZE, SIZE))
    policy = ResidualPolicy.initial(load_agent_config(CONFIG), spec, Normaliser.from_spec(spec))
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.actor.parameters():
        parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return save_policy(
        policy, tmp_path / "weights", 7, TASK.name, TASK.implementation, "scripted:can:1"
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_one_round(launch_sim, tmp_path, residual, killed):
    """Also when the labeler is killed in it, which ends the launch: the next one goes on."""
    folder = tmp_path / "test"

    def launch():
        return launch_sim(
            *("task:=can", "base_policy:=scripted", f"policy_b:=weights:{residual}"),
            *(f"run_dir:={folder}", "max_rounds:=1"),
            *(f"image_width:={SIZE}", f"image_height:={SIZE}"),
            file="ab_test.launch.py",
        )

    graph = launch()
    graph.wait_for("next is round 1, second", 300)
    if killed:
        graph.wait_for(r"\[episode_supervisor-\d+\].*episode 2: running", 60)
        graph.kill("ab_test_auto")
        graph.process.wait(60)
        assert not verify(folder).rounds
        assert '"assignment"' not in (folder / "record.jsonl").read_text()
        graph = launch()
        graph.wait_for(r"\[ab_test\]: next is round 1, second", 300)
    graph.wait_for("the test has ended: max_rounds 1 reached", 300)
    assert graph.process.wait(60) == 0
    assert graph.left_over() == []

    found = verify(folder)
    (round_,) = found.rounds
    store = EpisodeStore(folder)
    a, b = (store.read(facts["episode"]) for facts in (round_.facts_a, round_.facts_b))
    assert a.seed == b.seed == round_.seed
    assert (a.outcome == "success", b.outcome == "success") == round_.pair
    # From the identical state; A is the base policy alone, B is not.
    np.testing.assert_array_equal(a.state[0], b.state[0])
    for camera in TASK.cameras:
        np.testing.assert_array_equal(a.images[camera][0], b.images[camera][0])
    np.testing.assert_allclose(a.executed_action, np.clip(a.base_action[:-1], -1, 1), atol=1e-6)
    assert np.abs(b.executed_action - b.base_action[:-1]).max() > 0.05
    # What nodes said of the weights does not tell whose they were.
    versions = {int(a.policy_version[0]), int(b.policy_version[0])}
    assert versions == {1, 2} and int(a.policy_version[0]) == (1 if round_.first == "a" else 2)
    assert (folder / "starts/round_0001.png").is_file()
    assert "| B - A |" in (folder / "report.md").read_text()
