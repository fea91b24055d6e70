"""Fixtures that several test files share."""

import sys
from pathlib import Path

import numpy as np
import pytest

from resfit_rl.episode_store.episode import Episode

# Test files are imported by path: what they import from beside them must be found.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def make_episode():
    """Factory of random episodes that fit Square with small images."""

    def make(
        length=5,
        *,
        episode_id=1,
        outcome="success",
        seed=None,
        size=(20, 24),
        dims=(9, 7),
        **changes,
    ):
        rng = np.random.default_rng(episode_id if seed is None else seed)
        state_dim, action_dim = dims
        values = {
            "task": "square",
            "implementation": "robosuite-1.5.2/NutAssemblySquare/Panda",
            "base_policy": "scripted:square:1",
            "episode_id": episode_id,
            "seed": 100 + episode_id,
            "outcome": outcome,
            "reward": 1.0 if outcome == "success" else 0.0,
            "done": outcome != "timeout",
            "images": {
                name: rng.integers(0, 256, (length + 1, *size, 3), np.uint8)
                for name in ("agentview", "robot0_eye_in_hand")
            },
            "state": rng.normal(size=(length + 1, state_dim)).astype(np.float32),
            "base_action": rng.uniform(-1, 1, (length + 1, action_dim)).astype(np.float32),
            "executed_action": rng.uniform(-1, 1, (length, action_dim)).astype(np.float32),
            "policy_version": np.arange(length, dtype=np.int64),
            "stamps": np.arange(length + 1, dtype=np.int64) * 50_000_000 + 7,
        }
        return Episode(**(values | changes))

    return make
