"""The table of an ablation, and the runs that it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from resfit_rl.configuration import load_dataclass
from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.training.settings import AGENTS, agent_config

# Set by the table itself, or the same for all runs.
_OWN = ("task", "agent", "agent_config", "seed", "run", "base_actions")


@dataclass(frozen=True)
class Ablation:
    """A table; construction raises ValueError on an impossible value.

    Attributes:
        tasks: names.
        agent_config: file of hyperparameters that variants change, relative to the working
            directory; '' for each task's own.
        seeds: of the runs of each variant.
        train: further arguments of `./resfit train`, for all runs.
        variants: name -> hyperparameters in place of the file's; `agent` names a baseline.
        figures: name -> variants whose curves are in it.
    """

    tasks: list[str]
    agent_config: str
    seeds: list[int]
    train: dict[str, Any]
    variants: dict[str, dict[str, Any]]
    figures: dict[str, list[str]]

    def __post_init__(self) -> None:
        for key in ("tasks", "seeds", "variants", "figures"):
            if not getattr(self, key):
                raise ValueError(f"{key}: expected at least one, found none")
        for name, kind in (("tasks", str), ("seeds", int)):
            values = getattr(self, name)
            wrong = [value for value in values if type(value) is not kind]
            if wrong or len(set(values)) < len(values):
                raise ValueError(f"{name}: expected different {kind.__name__}s, found {values}")
        if taken := [key for key in self.train if key in _OWN]:
            raise ValueError(f"train: {taken[0]}: expected it outside of 'train', found it inside")
        for name, changes in self.variants.items():
            if not isinstance(changes, dict):
                raise ValueError(f"variants: {name}: expected a mapping, found {changes!r}")
            if (agent := changes.get("agent", "resfit")) not in AGENTS:
                raise ValueError(
                    f"variants: {name}: agent: expected one of {AGENTS}, found {agent}"
                )
        for figure, names in self.figures.items():
            if not isinstance(names, list) or not names:
                raise ValueError(f"figures: {figure}: expected a list of variants, found {names!r}")
            for name in names:
                if name not in self.variants:
                    raise ValueError(
                        f"figures: {figure}: expected variants of {list(self.variants)}, "
                        f"found {name}"
                    )


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        name: 'can-full-seed0'.
        run_dir: its run directory.
        log: file of what it prints.
        arguments: of `python -m resfit_rl.training`.
    """

    name: str
    task: str
    variant: str
    seed: int
    run_dir: Path
    log: Path
    arguments: tuple[str, ...]


def load_ablation(path: Path) -> Ablation:
    """Read a table. ValueError naming the file, the key, the expected and the found."""
    return load_dataclass(path, Ablation)


def plan(ablation: Ablation, folder: Path, agents_folder: Path) -> list[Job]:
    """All runs, seed by seed, so that a table that is cut short has all variants.

    Writes each variant's hyperparameters to `folder`/agents.

    Args:
        agents_folder: of the tasks' and the baselines' files.

    Raises:
        ValueError: a variant with an impossible hyperparameter.
        OSError: a file could not be written.
    """
    jobs = []
    for task in ablation.tasks:
        base = Path(ablation.agent_config or agents_folder / f"{task}.yaml").absolute()
        for variant, changes in ablation.variants.items():
            label = f"{task}-{file_name(variant)}"
            agent = changes.get("agent", "resfit")
            values = {key: value for key, value in changes.items() if key != "agent"}
            file = folder / "agents" / f"{label}.yaml"
            text = yaml.safe_dump({"base": str(base), **values}, sort_keys=False)
            write_atomically(file, text.encode())
            try:
                agent_config(agent, task, file, agents_folder)
            except ValueError as error:
                raise ValueError(f"variants: {variant}: {error}") from error
            for seed in ablation.seeds:
                name = f"{label}-seed{seed}"
                run_dir = folder / "runs" / name
                arguments = {
                    "task": task,
                    "agent": agent,
                    "agent_config": file,
                    "seed": seed,
                    "run": run_dir,
                    # Of one data set and base policy: made once for all.
                    "base_actions": folder / "base_actions",
                    **ablation.train,
                }
                jobs.append(
                    Job(
                        name, task, variant, seed, run_dir,
                        folder / "logs" / f"{name}.txt", _as_arguments(arguments),
                    )
                )  # fmt: skip
    return sorted(jobs, key=lambda job: job.seed)


def file_name(variant: str) -> str:
    """A variant's name as part of a path."""
    return variant.replace("/", "-")


def _as_arguments(values: dict[str, Any]) -> tuple[str, ...]:
    found: list[str] = []
    for key, value in values.items():
        found.append(f"--{key.replace('_', '-')}")
        several = value if isinstance(value, list) else [value]
        found += [str(one).lower() if isinstance(one, bool) else str(one) for one in several]
    return tuple(found)
