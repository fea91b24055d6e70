"""What can be compared, as one names it on the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from resfit_rl.base_policies import BASE_POLICIES
from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.evaluation import Candidate, EvaluationError
from resfit_rl.evaluation.candidate import BLIND

FORMS = """\
  run:DIR      base policy and residual of a run's newest weights (DIR/weights)
  weights:FILE base policy and the residual of a weights file
  base         the base policy alone
  KIND[:PATH]  a base policy by its kind, as ./resfit evaluate has them: act, scripted, ...
"""


def parse_policy(text: str, base: str, conditions: Candidate) -> Candidate:
    """The policy that `text` names (see FORMS).

    Args:
        base: KIND[:PATH] of the base policy that 'base', 'run' and 'weights' stand on.
        conditions: task and how it is run; its policy is not looked at.

    Raises:
        EvaluationError: no such form, or no weights where they should be.
    """
    form, _, rest = text.partition(":")
    if form == "base" and not rest:
        return _base(base, conditions)
    if form == "run":
        return replace(_base(base, conditions), residual=str(newest_weights(Path(rest))))
    if form == "weights":
        return replace(_base(base, conditions), residual=rest)
    return _base(text, conditions)


def newest_weights(run: Path) -> Path:
    """File of the newest version of a run's residual; EvaluationError when there is none."""
    # Here, as it brings torch.
    from resfit_rl.learning.publication import newest_version

    folder = run / "weights"
    version = newest_version(folder)
    if not version:
        raise EvaluationError(f"{folder}: expected weights of a run, found none")
    return folder / f"policy_v{version:06d}.safetensors"


def keep_weights(candidate: Candidate, file: Path) -> Candidate:
    """The same candidate with its residual in `file`: a run goes on and removes old weights.

    Raises:
        OSError: it could not be read or written.
    """
    if candidate.residual is None:
        return candidate
    if not file.exists():
        write_atomically(file, Path(candidate.residual).read_bytes())
    return replace(candidate, residual=str(file))


def _base(text: str, conditions: Candidate) -> Candidate:
    kind, _, path = text.partition(":")
    if kind not in BASE_POLICIES:
        raise EvaluationError(
            f"policy: expected run:DIR, weights:FILE, base, or KIND[:PATH] with one of "
            f"{', '.join(BASE_POLICIES)}, found {text!r}"
        )
    if not path and kind not in BLIND:
        path = f"models/{kind}_{conditions.task}"
    return replace(conditions, policy=kind, path=path or None, residual=None)
