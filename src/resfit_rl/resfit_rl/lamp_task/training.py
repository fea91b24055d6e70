"""Learning without ROS: the whole of it in one loop, as an example and as a proof."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from resfit_rl.agent import AgentConfig, Normaliser, ResidualPolicy, ResidualTD3
from resfit_rl.agent.residual_policy import NoiseMode
from resfit_rl.control import ChunkSchedule
from resfit_rl.control.residual_action import noise_generator, residual_action
from resfit_rl.episode_store import Episode
from resfit_rl.lamp_task.task import CAMERA, SPEC, LampTask, expert, imperfect_base
from resfit_rl.observation import Observation
from resfit_rl.replay import ReplayBuffer, offline_episodes

CONFIG = AgentConfig(
    algorithm="residual_td3", total_steps=520, offline_episodes=25,
    batch_size=24, offline_fraction=0.5, buffer_capacity=5000,
    utd_ratio=4, n_step=5, gamma=0.95, tau=0.02, critic_lr=1e-3, actor_lr=2e-4, encoder_lr=1e-3,
    grad_clip=1.0, ensemble_size=10, target_subset=2, shift_pad=4,
    base_policy=True, residual_scale=0.3, zero_init_residual=True, exploration_std=0.1,
    noise_clip=0.3, warmup_steps=200, warmup_noise=0.2, critic_warmup_updates=200,
    embed_dim=8, encoder_layers=0, encoder_heads=1, encoder_mlp_ratio=2, spatial_dim=32,
    critic_hidden_dim=32, critic_hidden_layers=2, actor_feature_dim=32, actor_hidden_dim=32,
    actor_hidden_layers=2, layer_norm=True,
)  # fmt: skip
VARIANTS: dict[str, dict[str, float | bool]] = {
    "full": {},
    "no_layer_norm": {"layer_norm": False},
    "no_demonstrations": {"offline_fraction": 0.0},
    "no_base_policy": {"base_policy": False, "residual_scale": 1.0, "zero_init_residual": False},
}
EVALUATIONS = 5  # on the way
_EVALUATION_SEED = 10_000_000


@dataclass(frozen=True)
class Result:
    """Outcome of one run.

    Attributes:
        curve: (environment steps, success) of evaluations of `episodes` episodes; the first is the
            base policy's.
        success: after the last step, of as many episodes.
        seconds: CPU time.
    """

    variant: str
    seed: int
    curve: list[tuple[int, float]]
    success: float
    seconds: float


@dataclass
class _Recording:
    """What happened in an episode so far; T actions between T + 1 observations."""

    images: list[NDArray[np.uint8]]
    state: list[NDArray[np.float32]]
    action: list[NDArray[np.float32]]

    def see(self, observation: Observation) -> None:
        self.images.append(observation.images[CAMERA])
        self.state.append(observation.state)


@dataclass(frozen=True)
class _Demonstration:
    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    action: NDArray[np.float32]


def train(
    variant: str, seed: int, episodes: int = 100, on_progress: Callable[[str], None] = print
) -> Result:
    """Learn for CONFIG.total_steps control steps.

    Args:
        variant: one of VARIANTS.
        episodes: of an evaluation, the same start states each time.
        on_progress: called with a line after each evaluation.
    """
    start = time.process_time()
    config = dataclasses.replace(CONFIG, **VARIANTS[variant])  # type: ignore[arg-type]
    base = imperfect_base()
    demonstrations = offline_episodes(
        _demonstrations(config.offline_episodes, seed),
        base,
        ChunkSchedule(1),
        task="lamp",
        implementation="lamp_task",
    )
    normaliser = Normaliser.fit(
        [episode.executed_action for episode in demonstrations],
        [episode.state for episode in demonstrations],
    )
    agent = ResidualTD3(config, SPEC, normaliser, seed)
    replay = ReplayBuffer(
        SPEC,
        config.buffer_capacity,
        config.n_step,
        config.gamma,
        demonstrations if config.offline_fraction else [],
    )
    steps, number = 0, 0
    curve = [(0, evaluate(None, episodes))]
    between = (config.total_steps - config.warmup_steps) / EVALUATIONS
    while steps < config.total_steps:
        number += 1
        episode = _collect(agent, number, seed, warm_up=agent.warm_up(steps))
        replay.add(episode)
        steps += len(episode)
        while agent.updates_owed(steps, replay):
            agent.update(replay)
        if steps >= config.warmup_steps + between * len(curve):
            curve.append((steps, evaluate(agent.policy(), episodes)))
            on_progress(f"{variant}, seed {seed}: {steps} steps, success {curve[-1][1]:.2f}")
    seconds = time.process_time() - start
    return Result(variant, seed, curve, curve[-1][1], seconds)


def evaluate(policy: ResidualPolicy | None, episodes: int) -> float:
    """Success of base and residual without noise, or of the base alone; all episodes at once."""
    tasks = [LampTask() for _ in range(episodes)]
    bases = [imperfect_base() for _ in range(episodes)]
    seen = [task.reset(_EVALUATION_SEED + k) for k, task in enumerate(tasks)]
    for k, base in enumerate(bases):
        base.reset(_EVALUATION_SEED + k)
    running = list(range(episodes))
    while running:
        action = np.stack([bases[k].predict_chunk(seen[k])[0] for k in running])
        if policy is not None:
            residual = _residuals(policy, [seen[k] for k in running], action)
            pairs = zip(action, residual, strict=True)
            action = np.stack([policy.combine(base, added) for base, added in pairs])
        over = []
        for k, command in zip(running, action, strict=True):
            seen[k], ended = tasks[k].step(command)
            over.append(ended)
        running = [k for k, ended in zip(running, over, strict=True) if not ended]
    return sum(task.success for task in tasks) / episodes


@torch.inference_mode()
def _residuals(
    policy: ResidualPolicy, observations: list[Observation], base: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(B, 2) for a batch, normalised units."""
    images = torch.from_numpy(np.stack([seen.images[CAMERA] for seen in observations]))
    state = torch.from_numpy(np.stack([seen.state for seen in observations]))
    return policy.batch_residual({CAMERA: images}, state, torch.from_numpy(base)).numpy()


def _collect(agent: ResidualTD3, number: int, seed: int, warm_up: bool) -> Episode:
    """One episode of base, residual and exploration noise."""
    task, base, policy = LampTask(), imperfect_base(), agent.policy()
    start = 2_000_000_000 + 100_000 * seed + number
    base.reset(start)
    noise: NoiseMode = "warm_up" if warm_up else "explore"
    observation, over = task.reset(start), False
    recording = _Recording([], [], [])
    recording.see(observation)
    base_action = [base.predict_chunk(observation)[0]]
    while not over:
        rng = noise_generator(seed, number, len(recording.action))
        _, action = residual_action(policy, SPEC, observation, base_action[-1], noise, rng)
        observation, over = task.step(action)
        recording.action.append(action)
        recording.see(observation)
        base_action.append(base.predict_chunk(observation)[0])
    length = len(recording.action)
    return Episode(
        task="lamp", implementation="lamp_task", base_policy=base.identity,
        episode_id=number, seed=start,
        outcome="success" if task.success else "failure",
        reward=float(task.success), done=True,
        images={CAMERA: np.stack(recording.images)}, state=np.stack(recording.state),
        base_action=np.stack(base_action), executed_action=np.stack(recording.action),
        policy_version=np.zeros(length, np.int64), stamps=np.arange(length + 1),
    )  # fmt: skip


def _demonstrations(count: int, seed: int) -> list[_Demonstration]:
    """Successes of the expert; the last frame has no action of its own."""
    task, pilot = LampTask(), expert()
    found: list[_Demonstration] = []
    start = 1_000_000 * (seed + 1)
    while len(found) < count:
        observation, over = task.reset(start), False
        pilot.reset(start)
        start += 1
        recording = _Recording([], [], [])
        recording.see(observation)
        while not over:
            recording.action.append(pilot.predict_chunk(observation)[0])
            observation, over = task.step(recording.action[-1])
            recording.see(observation)
        if task.success:
            action = np.stack([*recording.action, recording.action[-1]])
            images = {CAMERA: np.stack(recording.images)}
            found.append(_Demonstration(images, np.stack(recording.state), action))
    return found
