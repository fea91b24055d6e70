import numpy as np
import pytest

from resfit_rl.base_policies import BasePolicyError, base_policy_identity, load_base_policy
from resfit_rl.observation import Observation
from resfit_rl.tasks import get_task

SQUARE = get_task("square")
NOTHING = Observation({}, np.zeros(9, np.float32))


def test_gives_the_actions_in_order_and_repeats_the_last(tmp_path):
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 7)).astype(np.float32)
    path = tmp_path / "actions.npy"
    np.save(path, actions)
    policy = load_base_policy("replayed", SQUARE, path)
    assert policy.identity == base_policy_identity("replayed", SQUARE, path)
    for seed in (0, 1):
        policy.reset(seed)
        chunks = [policy.predict_chunk(NOTHING) for _ in range(4)]
        assert all(chunk.shape == (policy.chunk_size, 7) for chunk in chunks)
        assert np.array_equal(np.concatenate(chunks), actions[[0, 1, 2, 2]])


@pytest.mark.parametrize(
    ("actions", "error"),
    [
        (np.zeros((3, 6), np.float32), r"expected \(T, 7\), found \(3, 6\)"),
        (np.zeros((0, 7), np.float32), r"expected \(T, 7\), found \(0, 7\)"),
        (np.full((3, 7), np.nan, np.float32), "expected finite actions"),
    ],
)
def test_actions_that_do_not_fit_are_refused(tmp_path, actions, error):
    path = tmp_path / "actions.npy"
    np.save(path, actions)
    with pytest.raises(BasePolicyError, match=error):
        load_base_policy("replayed", SQUARE, path)


def test_truncated_file_is_refused(tmp_path):
    path = tmp_path / "actions.npy"
    np.save(path, np.zeros((50, 7), np.float32))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BasePolicyError, match=r"actions.npy: expected a .npy file of actions"):
        load_base_policy("replayed", SQUARE, path)
