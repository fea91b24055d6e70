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
from resfit_rl.tasks import PoseTerm, get_task

ROOT = Path(__file__).parents[3]
TASK = get_task("can_state")
SPEC = TASK.agent_spec()


@pytest.fixture(scope="module")
def simulation():
    made = make_simulation(TASK)
    yield made
    made.close()


@pytest.fixture
def agent():
    config = load_agent_config(ROOT / "config/agents/can_state.yaml")
    config = dataclasses.replace(config, batch_size=8, critic_warmup_updates=4)
    return ResidualTD3(config, SPEC, Normaliser.empty(SPEC), seed=1)


def episode(make_episode, number):
    return make_episode(
        6, episode_id=number, task=TASK.name, implementation=TASK.implementation, images={},
        dims=(TASK.state_dim, TASK.action_dim),
    )  # fmt: skip


def test_state_holds_the_object(simulation):
    frame = simulation.reset(3)
    assert isinstance(TASK.state_layout[-1], PoseTerm)
    seen = frame.observation(TASK)
    assert dict(seen.images) == {}
    assert seen.state.shape == (16,)
    can = frame.privileged["Can"]
    np.testing.assert_allclose(seen.state[9:12], can[:3], rtol=1e-6)
    # The same scene as with cameras.
    other = make_simulation(get_task("can"), rendering=None)
    np.testing.assert_array_equal(other.reset(3).privileged["Can"], can)
    other.close()


def test_expert_and_shipped_base_act(simulation):
    expert = rollout(simulation, load_base_policy("scripted", TASK), ChunkSchedule(1), 0)
    assert expert.success
    base = load_base_policy("act", TASK, ROOT / "models/act_can_state")
    clone = rollout(simulation, base, ChunkSchedule(3, 2), 0, max_steps=30)
    # It goes where the expert goes: nearer to the can than at the start.
    distance = [
        np.linalg.norm(frame.end_effectors["right"][:2] - frame.privileged["Can"][:2])
        for frame in clone.frames
    ]
    assert distance[-1] < 0.5 * distance[0]


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
    state, base = np.zeros(16, np.float32), np.zeros(7, np.float32)
    assert np.all(policy.residual({}, state, base) == 0)
    many = policy.batch_residual({}, torch.zeros(5, 16), torch.zeros(5, 7))
    assert many.shape == (5, 7)
