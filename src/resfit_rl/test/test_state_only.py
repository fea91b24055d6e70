"""A task without cameras: its state holds the object's pose."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from resfit_rl.agent import Normaliser, ResidualTD3, load_agent_config, load_policy, save_policy
from resfit_rl.base_policies import load_base_policy
from resfit_rl.control import ChunkSchedule
from resfit_rl.evaluation.rollout import rollout
from resfit_rl.replay import ReplayBuffer
from resfit_rl.simulation import make_simulation
from resfit_rl.tasks import StateError, assemble_state, get_task

ROOT = Path(__file__).parents[3]
TASK = get_task("lift_state")
SPEC = TASK.agent_spec()


@pytest.fixture(scope="module")
def simulation():
    made = make_simulation(TASK)
    yield made
    made.close()


@pytest.fixture
def agent():
    config = load_agent_config(ROOT / "config/agents/lift_state.yaml")
    config = dataclasses.replace(config, batch_size=8, critic_warmup_updates=4)
    return ResidualTD3(config, SPEC, Normaliser.empty(SPEC), seed=1)


def episode(make_episode, number):
    return make_episode(
        6, episode_id=number, task=TASK.name, implementation=TASK.implementation, images={},
        dims=(TASK.state_dim, TASK.action_dim),
    )  # fmt: skip


def test_state_holds_the_object(simulation):
    frame = simulation.reset(3)
    seen = frame.observation(TASK)
    assert dict(seen.images) == {}
    assert seen.state.shape == (19,)
    cube = frame.privileged["cube"]
    np.testing.assert_allclose(seen.state[9:12], cube[:3], rtol=1e-6)
    between = cube[:3] - frame.end_effectors["right"][:3]
    np.testing.assert_allclose(seen.state[16:], between, rtol=1e-5)
    # The same scene as with cameras, the cube's size included.
    other = make_simulation(get_task("Lift"), rendering=None)
    np.testing.assert_array_equal(other.reset(3).privileged["cube"], cube)
    other.close()


def test_state_needs_the_object():
    joints = {joint: 0.0 for term in TASK.state_layout[1:2] for joint in term.joints}
    with pytest.raises(StateError, match="end effector cube"):
        assemble_state(TASK, joints, {"right": np.array([0, 0, 0, 0, 0, 0, 1.0])})


def test_expert_and_shipped_base_act(simulation):
    expert = rollout(simulation, load_base_policy("scripted", TASK), ChunkSchedule(1), 0)
    assert expert.success
    base = load_base_policy("act", TASK, ROOT / "models/act_lift_state")
    clone = rollout(simulation, base, ChunkSchedule(3, 2), 0, max_steps=40)
    # It goes where the expert goes: down to the cube.
    height = [
        frame.end_effectors["right"][2] - frame.privileged["cube"][2] for frame in clone.frames
    ]
    assert min(height) < 0.2 * height[0]


def test_updates_change_actor_and_critic_alike(agent, make_episode):
    replay = ReplayBuffer(SPEC, 100, 3, 0.99, [episode(make_episode, n) for n in range(3)])
    replay.add(episode(make_episode, 7))
    before = {name: value.clone() for name, value in agent.state_dict()["actor"].items()}
    critic = {name: value.clone() for name, value in agent.state_dict()["critic"].items()}
    metrics = agent.update(replay, blocks=3)
    assert np.isfinite(list(metrics.values())).all()
    assert agent.updates == 12
    for old, new in ((before, agent.actor.state_dict()), (critic, agent.critic.state_dict())):
        assert any(not torch.equal(old[name], new[name]) for name in old)


def test_policy_file(agent, tmp_path):
    file = save_policy(
        agent.policy(), tmp_path / "policy.safetensors", 3, TASK.name, TASK.implementation, "x:1"
    )
    policy, version = load_policy(file, TASK.name, SPEC)
    assert version == 3
    state, base = np.zeros(19, np.float32), np.zeros(7, np.float32)
    assert np.all(policy.residual({}, state, base) == 0)
    many = policy.batch_residual({}, torch.zeros(5, 19), torch.zeros(5, 7))
    assert many.shape == (5, 7)
