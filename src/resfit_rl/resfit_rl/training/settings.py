"""What a training run is made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from resfit_rl.agent import AgentConfig, load_agent_config
from resfit_rl.episode_store import RunError
from resfit_rl.episode_store.atomic_file import write_atomically

# The last five are baselines: files of their own, whose values replace those of the task's file.
AGENTS = ("resfit", "rlpd", "rlpd_default", "ibrl", "filtered_bc", "residual_ppo")
AGENTS_FOLDER = Path("config/agents")
FILE = "training.json"
# Another value of these would make data of another run.
_IDENTITY = ("agent", "seed", "replan_interval", "lead", "max_steps")


@dataclass(frozen=True)
class Settings:
    """One training run.

    Attributes:
        task: name.
        agent: one of AGENTS.
        seed: of networks, sampling, start states and exploration noise.
        run_dir: folder of the run.
        base_policy, base_policy_path: as load_base_policy takes them.
        demonstrations: folder of the data set; None for none.
        base_actions: folder where the demonstrations' base actions are kept.
        replan_interval, lead: of the chunk schedule.
        image_size: (height, width) of all cameras, pixels.
        max_steps: of an episode; None for the task's.
        device: where networks are trained.
        speed_ups: whether a GPU computes in bfloat16, compiled and as a CUDA graph.
        collector_device: where base policy and residual act.
        threads: CPU threads of an update.
        environments: simulations that collect at once.
        overlap: whether episodes are collected while updates are made, in other processes.
        ahead: episodes that may be begun while there are updates to make from those before.
        steps: control steps after which the run ends; None for the configuration's.
        evaluate_every: control steps between evaluations; 0 for none.
        evaluation_episodes: of each evaluation.
        evaluation_seed: of the first of them.
        evaluation_workers: processes.
        evaluation_waits: whether training waits for an evaluation.
        checkpoint_period: s between checkpoints.
        wandb: project of Weights & Biases; None for none.
        verbose: whether each episode and publication is told of.
    """

    task: str
    agent: str
    seed: int
    run_dir: Path
    base_policy: str
    base_policy_path: str | None
    demonstrations: Path | None
    base_actions: Path
    replan_interval: int
    lead: int
    image_size: tuple[int, int]
    max_steps: int | None
    device: str
    speed_ups: bool
    collector_device: str
    threads: int
    environments: int
    overlap: bool
    ahead: int
    steps: int | None
    evaluate_every: int
    evaluation_episodes: int
    evaluation_seed: int
    evaluation_workers: int
    evaluation_waits: bool
    checkpoint_period: float
    wandb: str | None
    verbose: bool


def agent_config(
    agent: str, task: str, file: Path | None = None, folder: Path = AGENTS_FOLDER
) -> AgentConfig:
    """Hyperparameters of `agent` at the task's values.

    Args:
        agent: one of AGENTS.
        file: in place of the task's own file in `folder`.

    Raises:
        ValueError: see load_agent_config.
    """
    own = file or folder / f"{task}.yaml"
    if agent == "resfit":
        return load_agent_config(own)
    return load_agent_config(folder / f"{agent}.yaml", root=own)


def claim_settings(settings: Settings) -> None:
    """Write the settings to training.json of the run directory, or check those that are there.

    Raises:
        RunError: the run was begun with others that its data depends on.
        OSError: the file could not be written.
    """
    path = settings.run_dir / FILE
    values = asdict(settings)
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            found = {key: found[key] for key in _IDENTITY}
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: expected a run's settings, found {error!r}") from error
        for key in _IDENTITY:
            if found[key] != values[key]:
                raise RunError(
                    f"{path}: {key}: expected {found[key]}, as this run was begun, found "
                    f"{values[key]} (choose another run directory)"
                )
    text = json.dumps(values, indent=2, default=str) + "\n"
    write_atomically(path, text.encode())
