"""Episodes of base policy, residual and exploration noise, in simulation."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from resfit_rl.agent import ResidualPolicy
from resfit_rl.agent.residual_policy import NoiseMode
from resfit_rl.base_policies import load_base_policy
from resfit_rl.control import ChunkedBase, ChunkSchedule
from resfit_rl.control.residual_action import noise_generator, residual_action
from resfit_rl.episode_store import Episode
from resfit_rl.learning.announcement import Announcement, blank_observation, load_announced
from resfit_rl.observation import Observation
from resfit_rl.simulation import RenderOptions, make_simulation
from resfit_rl.tasks import get_task
from resfit_rl.training.time_shares import TimeShares

# Seeds of start states: clear of demonstrations (1000 on), of evaluations, and of other runs.
_FIRST_SEED, _SEEDS_OF_A_RUN = 1_000_000_000, 1_000_000


@dataclass(frozen=True)
class CollectorSettings:
    """What a collector is made from, in whichever process.

    Attributes:
        task: name.
        base_policy, base_policy_path: as load_base_policy takes them.
        replan_interval, lead: of the chunk schedule; a policy of single actions has its own.
        image_size: (height, width) of all cameras, pixels.
        max_steps: of an episode; None for the task's.
        seed: of the run; start states and exploration noise follow from it and the episode's id.
        device: of base policy and residual.
        threads: CPU threads of a network's pass.
    """

    task: str
    base_policy: str
    base_policy_path: str | None
    replan_interval: int
    lead: int
    image_size: tuple[int, int]
    max_steps: int | None
    seed: int
    device: str
    threads: int


@dataclass(frozen=True)
class Assignment:
    """An episode to collect: its id, the weights that act, and whether with warm-up noise."""

    episode_id: int
    weights: Announcement
    warm_up: bool


class Collector:
    """Simulation, frozen base policy and residual. All calls must come from one thread (OpenGL's).

    An episode is a function of its assignment and the run's seed alone. It ends with the first
    success (reward 1, done) or at the time limit (reward 0, not done). Actions are kept within the
    robot's limits; there is no gate and no force threshold here, as the graph has them.

    Attributes:
        time: what it was spent on.

    Raises:
        BasePolicyError, SimulationError, ValueError: it cannot be made from its settings.
    """

    def __init__(self, settings: CollectorSettings) -> None:
        torch.set_num_threads(settings.threads)
        self._settings = settings
        self._task = get_task(settings.task)
        self._spec = self._task.agent_spec(settings.image_size)
        self._max_steps = settings.max_steps or self._task.max_steps
        self._base_policy = load_base_policy(
            settings.base_policy, self._task, settings.base_policy_path, settings.device
        )
        if self._base_policy.chunk_size > 1:
            # Does it fit the images? And the first pass is slow.
            self._base_policy.predict_chunk(blank_observation(self._spec))
        self._worker = ThreadPoolExecutor(1, "chunks")
        schedule = ChunkSchedule.fitting(
            self._base_policy.chunk_size, settings.replan_interval, settings.lead
        )
        self._base = ChunkedBase(self._base_policy, schedule, self._task.action_dim, self._worker)
        self._simulation = make_simulation(
            self._task, image_size=settings.image_size, rendering=RenderOptions()
        )
        self._weights: Announcement | None = None
        self._policy: ResidualPolicy | None = None
        self.time = TimeShares()

    def collect(self, assignment: Assignment) -> Episode:
        """The episode.

        Raises:
            PolicyFileError: the weights are not those announced, or not of this run.
            BasePolicyError, ValueError: an action could not be made.
        """
        if assignment.weights != self._weights:
            with self.time.measure("transfer"):
                self._policy = load_announced(
                    assignment.weights,
                    self._task,
                    self._spec,
                    self._base_policy.identity,
                    self._settings.device,
                )
            self._weights = assignment.weights
        noise: NoiseMode = "warm_up" if assignment.warm_up else "explore"
        return self._episode(assignment.episode_id, assignment.weights.version, noise)

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)
        self._simulation.close()

    def _episode(self, episode_id: int, version: int, noise: NoiseMode) -> Episode:
        run_seed = self._settings.seed
        seed = _FIRST_SEED + _SEEDS_OF_A_RUN * run_seed + episode_id
        observations: list[Observation] = []
        base_actions: list[NDArray[np.float32]] = []
        executed: list[NDArray[np.float32]] = []
        self._base.reset(seed)
        success = self._see(observations, seed, None)
        while True:
            step, observation = len(executed), observations[-1]
            with self.time.measure("base policy"):
                base_actions.append(self._base.action(step).action)
            # The terminal observation has its base action too: returns bootstrap with it.
            if step and (success or step == self._max_steps):
                break
            with self.time.measure("residual"):
                _, action = residual_action(
                    self._policy,
                    self._spec,
                    observation,
                    base_actions[-1],
                    noise,
                    noise_generator(run_seed, episode_id, step),
                )
            executed.append(action)
            success = self._see(observations, seed, action)
        length = len(executed)
        period = round(1e9 / self._task.control_frequency)  # ns
        return Episode(
            task=self._task.name,
            implementation=self._task.implementation,
            base_policy=self._base_policy.identity,
            episode_id=episode_id,
            seed=seed,
            outcome="success" if success else "timeout",
            reward=float(success),
            done=success,
            images={
                camera: np.stack([seen.images[camera] for seen in observations])
                for camera in self._task.cameras
            },
            state=np.stack([seen.state for seen in observations]),
            base_action=np.stack(base_actions),
            executed_action=np.stack(executed),
            policy_version=np.full(length, version, np.int64),
            stamps=period * np.arange(1, length + 2, dtype=np.int64),
        )

    def _see(
        self, observations: list[Observation], seed: int, action: NDArray[np.float32] | None
    ) -> bool:
        """Reset, or take a step; append what is seen. Whether the task is solved."""
        rendered = self._simulation.render_seconds
        start = time.monotonic()
        frame = self._simulation.reset(seed) if action is None else self._simulation.step(action)
        rendered = self._simulation.render_seconds - rendered
        self.time.add("rendering", rendered)
        self.time.add("environment", time.monotonic() - start - rendered)
        observations.append(frame.observation(self._task))
        self._base.observe(len(observations) - 1, observations[-1])
        return frame.success
