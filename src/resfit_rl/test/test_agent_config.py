import dataclasses
from pathlib import Path

import pytest

from resfit_rl.agent import load_agent_config

AGENTS = Path(__file__).parents[3] / "config" / "agents"


@pytest.mark.parametrize("path", sorted(AGENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_read(path):
    assert load_agent_config(path).batch_size >= 1


# total steps, buffer, gamma, n-step, residual scale, offline episodes, actor lr, exploration std
TABLE_B2 = {
    "can": (200_000, 200_000, 0.99, 3, 0.1, 300, 1e-6, 0.05),
    "square": (200_000, 200_000, 0.99, 3, 0.1, 300, 1e-6, 0.05),
    "box_cleanup": (300_000, 300_000, 0.99, 3, 0.2, 1000, 5e-6, 0.05),
    "can_sort": (300_000, 300_000, 0.995, 5, 0.1, 1000, 1e-6, 0.025),
    "coffee": (500_000, 300_000, 0.995, 5, 0.2, 1000, 1e-6, 0.025),
}


@pytest.mark.parametrize("task", TABLE_B2)
def test_table_b2(task):
    config = load_agent_config(AGENTS / f"{task}.yaml")
    assert TABLE_B2[task] == (
        config.total_steps, config.buffer_capacity, config.gamma, config.n_step,
        config.residual_scale, config.offline_episodes, config.actor_lr, config.exploration_std,
    )  # fmt: skip
    # What the tasks share.
    shared = {
        "algorithm": "residual_td3", "batch_size": 256, "offline_fraction": 0.5, "utd_ratio": 4,
        "warmup_steps": 10_000, "warmup_noise": 0.2, "critic_warmup_updates": 10_000,
        "critic_lr": 1e-4, "tau": 0.005, "noise_clip": 0.3, "ensemble_size": 10,
        "target_subset": 2, "shift_pad": 4, "base_policy": True, "zero_init_residual": True,
        "layer_norm": True,
    }  # fmt: skip
    assert {key: getattr(config, key) for key in shared} == shared


def test_table_b3():
    config = load_agent_config(AGENTS / "rlpd.yaml")
    tuned = {
        "base_policy": False, "actor_lr": 1e-4, "tau": 0.01, "residual_scale": 1.0,
        "exploration_std": 0.1, "critic_warmup_updates": 0, "zero_init_residual": False,
        "warmup_noise": 1.0,
    }  # fmt: skip
    assert {key: getattr(config, key) for key in tuned} == tuned


def test_algorithms_of_the_baselines():
    found = {
        name: load_agent_config(AGENTS / f"{name}.yaml").algorithm
        for name in ("rlpd", "rlpd_default", "ibrl", "filtered_bc", "residual_ppo")
    }
    assert found == {
        "rlpd": "residual_td3", "rlpd_default": "residual_td3", "ibrl": "ibrl",
        "filtered_bc": "filtered_bc", "residual_ppo": "residual_ppo",
    }  # fmt: skip


def test_a_files_base(tmp_path):
    (tmp_path / "cpu.yaml").write_text((AGENTS / "cpu.yaml").read_text())
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: cpu.yaml\ngamma: 0.5\n")
    config = load_agent_config(mine)
    assert config.gamma == 0.5 and config.batch_size == 32
    for text, message in (
        ("base: nowhere.yaml\n", "nowhere.yaml: expected a readable"),
        ("base: mine.yaml\n", "base: expected another file, found a circle"),
        ("base: 3\n", "base: expected a file's path, found 3"),
        ("base: cpu.yaml\nalgorithm: sac\n", "algorithm: expected one of .* found 'sac'"),
        ("base: cpu.yaml\nalgorithm: residual_ppo\n", "rollout_steps: expected a value"),
        ("base: cpu.yaml\nrollout_steps: 3\n", "rollout_steps: unknown key"),
    ):
        mine.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_agent_config(mine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("gamma: 0.99", "gamma: 1.5"), r"gamma: expected a number in \(0, 1\], found 1.5"),
        (("gamma: 0.99", ""), "gamma: expected a value, found none"),
        (("gamma: 0.99", "gama: 0.99"), "gama: unknown key"),
        (("gamma: 0.99", "gamma: 0.99\ngamma: 0.9"), "gamma: expected once, found twice"),
        (("utd_ratio: 1", "utd_ratio: 1.5"), "utd_ratio: expected an integer >= 1, or one over"),
        (("utd_ratio: 1", "utd_ratio: 0.4"), "utd_ratio: expected an integer >= 1, or one over"),
        (("utd_ratio: 1", "utd_ratio: 0"), "utd_ratio: expected an integer >= 1, or one over"),
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


@pytest.mark.parametrize(
    ("ratio", "per_block", "of_7_steps"), [(0.5, 1, 3), (0.333, 1, 2), (1, 1, 7), (4, 4, 28)]
)
def test_updates_for_steps(ratio, per_block, of_7_steps):
    config = dataclasses.replace(load_agent_config(AGENTS / "cpu.yaml"), utd_ratio=ratio)
    assert (config.updates_per_block, config.updates_for(7)) == (per_block, of_7_steps)


@pytest.mark.parametrize("agent", ["rlpd", "rlpd_default", "ibrl", "filtered_bc", "residual_ppo"])
def test_a_baseline_at_a_tasks_values(agent):
    own = load_agent_config(AGENTS / f"{agent}.yaml")
    config = load_agent_config(AGENTS / f"{agent}.yaml", root=AGENTS / "coffee.yaml")
    # What the baseline's file, or the one between, says.
    kept = {"rlpd": "tau", "rlpd_default": "n_step", "ibrl": "residual_scale"}
    key = kept.get(agent, "actor_lr")
    assert getattr(config, key) == getattr(own, key) and config.algorithm == own.algorithm
    # What the task's says.
    assert (config.gamma, config.offline_episodes) == (0.995, 1000)
    assert own.gamma == 0.99
    assert config.n_step == (1 if agent == "rlpd_default" else 5)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing"):
        load_agent_config(tmp_path / "nothing")
