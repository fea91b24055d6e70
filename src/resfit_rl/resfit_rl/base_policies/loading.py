"""A base policy by name."""

from __future__ import annotations

from pathlib import Path

from resfit_rl.base_policies.identity import require_kind
from resfit_rl.base_policies.interface import BasePolicy
from resfit_rl.tasks import Task


def load_base_policy(
    kind: str, task: Task, path: Path | str | None = None, device: str = "cpu"
) -> BasePolicy:
    """The base policy of `task`.

    Args:
        kind: 'act' (LeRobot's ACT as `train-base` writes it), 'scripted' (expert, simulator only),
            'replayed', 'lerobot' (any policy of LeRobot), or the name of one of LeRobot's types,
            which the files must then be of.
        path: checkpoint folder, or Hub name of a LeRobot policy, file of 'replayed'; unused by
            'scripted'.

    Raises:
        BasePolicyError: another kind, files that do not fit the task, or missing packages.
    """
    require_kind(kind)
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
    from resfit_rl.base_policies.lerobot_policy import load_lerobot

    return load_lerobot(path, task, device, None if kind == "lerobot" else kind)
