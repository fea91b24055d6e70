from pathlib import Path

import pytest

from resfit_rl.agent import load_agent_config

AGENTS = Path(__file__).parents[3] / "config" / "agents"


@pytest.mark.parametrize("path", sorted(AGENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_read(path):
    assert load_agent_config(path).batch_size >= 1


def test_the_papers_values():
    config = load_agent_config(AGENTS / "paper.yaml")
    assert (config.batch_size, config.utd_ratio, config.n_step, config.gamma) == (256, 4, 3, 0.99)
    assert (config.critic_lr, config.actor_lr, config.tau) == (1e-4, 1e-6, 0.005)
    assert (config.ensemble_size, config.target_subset, config.residual_scale) == (10, 2, 0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("gamma: 0.99", "gamma: 1.5"), r"gamma: expected a number in \(0, 1\], found 1.5"),
        (("gamma: 0.99", ""), "gamma: expected a value, found none"),
        (("gamma: 0.99", "gama: 0.99"), "gama: unknown key"),
        (("gamma: 0.99", "gamma: 0.99\ngamma: 0.9"), "gamma: expected once, found twice"),
        (("n_step: 3", "n_step: 3.5"), "n_step: expected int, found float 3.5"),
        (("actor_lr: 1.0e-4", "actor_lr: 1e-4"), "write 1.0e-4"),
        (("target_subset: 2", "target_subset: 11"), "at most ensemble_size = 10, found 11"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, change, message):
    text = (AGENTS / "cpu.yaml").read_text()
    assert change[0] in text
    path = tmp_path / "agent.yaml"
    path.write_text(text.replace(*change, 1))
    with pytest.raises(ValueError, match=message) as info:
        load_agent_config(path)
    assert str(path) in str(info.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing"):
        load_agent_config(tmp_path / "nothing")
