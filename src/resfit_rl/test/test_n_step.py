import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_agent import n_step_return

from resfit_rl.replay import n_step_targets


@given(
    length=st.integers(1, 40),
    n=st.integers(1, 12),
    gamma=st.floats(0.5, 1.0),
    success=st.booleans(),
    timeout=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_the_sum_written_out(length, n, gamma, success, timeout, seed):
    reward, done = (0.0, False) if timeout else (float(success), True)
    value = np.random.default_rng(seed).normal(size=length + 1)
    targets = n_step_targets(length, reward, done, n, gamma)
    found = targets.reward + targets.discount * value[targets.next_index]
    rewards = [0.0] * (length - 1) + [reward]
    for t in range(length):
        total, discount, index = n_step_return(rewards, done, t, n, gamma)
        assert targets.next_index[t] == index
        np.testing.assert_allclose(found[t], total + discount * value[index], rtol=1e-5, atol=1e-6)
    assert (np.diff(targets.next_index) >= 0).all() and targets.next_index.max() == length


def test_by_hand():
    success = n_step_targets(4, 1.0, True, 3, 0.5)
    np.testing.assert_allclose(success.reward, [0, 0.25, 0.5, 1])
    np.testing.assert_allclose(success.discount, [0.125, 0, 0, 0])
    assert success.next_index.tolist() == [3, 4, 4, 4]
    timeout = n_step_targets(4, 0.0, False, 3, 0.5)
    np.testing.assert_allclose(timeout.reward, [0, 0, 0, 0])
    np.testing.assert_allclose(timeout.discount, [0.125, 0.125, 0.25, 0.5])
    failure = n_step_targets(2, 0.0, True, 3, 0.5)
    assert failure.reward.tolist() == [0, 0] and failure.discount.tolist() == [0, 0]


def test_impossible_arguments():
    with pytest.raises(ValueError, match="length >= 1"):
        n_step_targets(0, 0.0, True, 3, 0.9)
