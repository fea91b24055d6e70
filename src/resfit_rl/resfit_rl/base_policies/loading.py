"""A base policy by name."""

from __future__ import annotations

from pathlib import Path

from resfit_rl.base_policies.interface import BasePolicy, BasePolicyError
from resfit_rl.tasks import Task


def load_base_policy(
    kind: str, task: Task, path: Path | str | None = None, device: str = "cpu"
) -> BasePolicy:
    """The base policy of `task`.

    Args:
        kind: 'act' (LeRobot's ACT), 'scripted' (expert, simulator only) or 'replayed'.
        path: checkpoint folder of 'act', file of 'replayed'; unused by 'scripted'.

    Raises:
        BasePolicyError: another kind, or files that do not fit the task.
    """
    # Imported here: each kind brings a heavy library that the others do without.
    if kind == "act":
        from resfit_rl.base_policies.act import load_act

        return load_act(path or "", task, device)
    if kind == "scripted":
        from resfit_rl.base_policies.scripted import ScriptedExpert

        return ScriptedExpert(task.name)
    if kind == "replayed":
        from resfit_rl.base_policies.replayed import load_replayed

        return load_replayed(path or "", task)
    raise BasePolicyError(f"base policy: expected act, scripted or replayed, found {kind!r}")
