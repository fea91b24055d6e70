"""A candidate: a base policy, alone or with a residual on top."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resfit_rl.agent import Normaliser, ResidualPolicy, load_agent_config, save_policy
from resfit_rl.evaluation import Candidate, EvaluationError, load_candidate, rollout
from resfit_rl.evaluation.__main__ import main
from resfit_rl.simulation import RenderOptions, Simulation
from resfit_rl.tasks import get_task

CONFIG = load_agent_config(Path(__file__).parents[3] / "config/agents/cpu.yaml")
SIZE = (20, 24)
TASK = get_task("can")
SPEC = TASK.agent_spec(SIZE)
STEPS = 3


def weights(path, base_policy, learnt):
    policy = ResidualPolicy.initial(CONFIG, SPEC, Normaliser.from_spec(SPEC))
    if learnt:
        generator = torch.Generator().manual_seed(0)
        for parameter in policy.actor.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    save_policy(policy, path, 7, TASK.name, TASK.implementation, base_policy)
    return str(path)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("replay") / "actions.npy"
    np.save(path, np.random.default_rng(0).uniform(-1, 1, (STEPS, 7)).astype(np.float32))
    return Candidate("can", "replayed", str(path), image_size=SIZE, max_steps=STEPS)


@pytest.fixture(scope="module")
def can():
    simulation = Simulation(TASK, image_size=SIZE, rendering=RenderOptions())
    yield simulation
    simulation.close()


def with_residual(base, path):
    return Candidate("can", "replayed", base.path, image_size=SIZE, residual=path)


def test_the_residual_acts_on_top_and_is_part_of_the_identity(base, can, tmp_path):
    alone = load_candidate(base)
    assert alone.residual is None and alone.identity == base.identity() == alone.base.identity
    found = {}
    for name, learnt in (("initial", False), ("learnt", True)):
        candidate = with_residual(
            base, weights(tmp_path / f"{name}.safetensors", alone.base.identity, learnt)
        )
        loaded = load_candidate(candidate)
        assert loaded.identity == candidate.identity()
        assert loaded.identity.startswith(f"{alone.identity}+residual:")
        episode = rollout(
            can, loaded.base, loaded.schedule, 3, residual=loaded.residual, max_steps=STEPS
        )
        found[name] = loaded, episode
    plain = rollout(can, alone.base, alone.schedule, 3, max_steps=STEPS)
    assert found["initial"][0].identity != found["learnt"][0].identity
    np.testing.assert_allclose(found["initial"][1].actions, plain.actions, atol=1e-6)
    loaded, episode = found["learnt"]
    for action, frame, base_action in zip(
        episode.actions, episode.frames, plain.actions, strict=False
    ):
        seen = frame.observation(TASK)
        residual = loaded.residual.residual(seen.images, seen.state, base_action)
        assert np.abs(residual).max() > 0.01
        expected = np.clip(loaded.residual.combine(base_action, residual), -1, 1)
        np.testing.assert_allclose(action, expected, atol=1e-6)


def test_a_residual_of_another_base_is_refused(base, tmp_path):
    path = weights(tmp_path / "other.safetensors", "act:another", False)
    with pytest.raises(EvaluationError, match=r"base_policy: expected replayed:.*found act:an"):
        load_candidate(with_residual(base, path))
    with pytest.raises(EvaluationError, match=r"absent\.safetensors"):
        load_candidate(with_residual(base, "absent.safetensors"))


def test_command_evaluates_base_and_residual(base, tmp_path, capsys):
    path = weights(tmp_path / "learnt.safetensors", load_candidate(base).base.identity, True)
    arguments = ["--task", "can", "--policy", "replayed", "--path", base.path, "--workers", "1"]
    arguments += ["--episodes", "1", "--max-steps", "2", "--image-size", "20", "24"]
    arguments += ["--residual", path, "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "+residual:" in capsys.readouterr().out
    assert (tmp_path / "out/failure.png").is_file()
