"""Curves of a run while it runs: TensorBoard, and Weights & Biases where it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Curves:
    """Scalars against control steps.

    Args:
        first_step: points from here on, of an attempt that was killed, are hidden.
        wandb: project; None for none.
        config: of the run, recorded with W&B.
    """

    def __init__(
        self, run_dir: Path, first_step: int, wandb: str | None, config: Mapping[str, Any]
    ) -> None:
        self._wandb: Any = None
        if wandb is not None:
            self._wandb = _start_wandb(run_dir, wandb, config)
        # Takes a second to import.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(  # type: ignore[no-untyped-call]
            str(run_dir / "tensorboard"), purge_step=first_step, flush_secs=30
        )

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call]
        if self._wandb is not None:
            self._wandb.log({**values, "environment_steps": step})

    def close(self) -> None:
        self._writer.close()  # type: ignore[no-untyped-call]
        if self._wandb is not None:
            self._wandb.finish()


def _start_wandb(run_dir: Path, project: str, config: Mapping[str, Any]) -> Any:
    # Only where it is asked for; the command has looked whether it is there.
    import wandb

    run = wandb.init(
        project=project, id=run_dir.name, name=run_dir.name, resume="allow", dir=str(run_dir),
        config=dict(config),
    )  # fmt: skip
    # Evaluations come later than the steps that they are of.
    run.define_metric("*", step_metric="environment_steps")
    return run
