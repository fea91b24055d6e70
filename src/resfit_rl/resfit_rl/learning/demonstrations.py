"""Demonstrations made ready for the learner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from resfit_rl.base_policies import load_base_policy
from resfit_rl.control import ChunkSchedule
from resfit_rl.demonstrations import load_demonstrations
from resfit_rl.episode_store import Episode
from resfit_rl.replay import offline_episodes
from resfit_rl.tasks import Task


def relabelled_demonstrations(
    root: Path,
    task: Task,
    image_size: tuple[int, int],
    base_policy: str,
    base_policy_path: str | None,
    schedule: ChunkSchedule,
    cache_dir: Path,
    device: str = "cpu",
    episodes: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Episode]:
    """The data set at `root` as episodes with the base policy's actions.

    Args:
        image_size: (height, width), pixels.
        base_policy, base_policy_path: as load_base_policy takes them.
        schedule: as the acting policy is given it; see ChunkSchedule.fitting.
        cache_dir: where base actions are kept; see offline_episodes.
        episodes: how many demonstrations are taken (and checked), the first ones; None for all.

    Raises:
        ValueError, OSError, BasePolicyError: data set or base policy is not there, is damaged, or
            is another task's; names it.
    """
    policy = load_base_policy(base_policy, task, base_policy_path, device)
    schedule = ChunkSchedule.fitting(policy.chunk_size, schedule.replan_interval, schedule.lead)
    return offline_episodes(
        load_demonstrations(root, task, image_size, episodes=episodes),
        policy,
        schedule,
        task=task.name,
        implementation=task.implementation,
        cache_dir=cache_dir,
        on_progress=on_progress,
    )
