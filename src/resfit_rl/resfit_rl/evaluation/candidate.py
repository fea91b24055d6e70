"""What is evaluated: a base policy, alone or with a residual on top."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resfit_rl.base_policies import BasePolicy, base_policy_identity, load_base_policy
from resfit_rl.control import ChunkSchedule
from resfit_rl.tasks import get_task

if TYPE_CHECKING:
    from resfit_rl.agent import ResidualPolicy

# They look at no picture.
BLIND = ("scripted", "replayed")


class EvaluationError(Exception):
    """Episodes could not be run or compared; names the thing, the expected and the found."""


@dataclass(frozen=True)
class Candidate:
    """A policy and how it is run; a worker process makes it from this.

    Attributes:
        task: name.
        policy: kind of base policy.
        path: of its files, None for a policy that has none.
        device: cpu or cuda.
        replan_interval, lead: of the chunk schedule; a policy of single actions has its own.
        max_steps: None for the task's.
        rendering: whether cameras are rendered; a residual wants them.
        image_size: (height, width) of all cameras, pixels.
        residual: weights file of a residual policy (resfit_rl.agent.save_policy) that acts on top,
            without exploration noise; None for the base policy alone.
    """

    task: str
    policy: str
    path: str | None = None
    device: str = "cpu"
    replan_interval: int = 3
    lead: int = 2
    max_steps: int | None = None
    rendering: bool = True
    image_size: tuple[int, int] = (84, 84)
    residual: str | None = None

    @property
    def blind(self) -> bool:
        """Whether it acts without pictures."""
        return self.policy in BLIND and self.residual is None

    def identity(self) -> str:
        """Of base and residual, from their files, without loading them.

        Raises:
            BasePolicyError, EvaluationError: files that cannot be read.
        """
        base = base_policy_identity(self.policy, get_task(self.task), self.path)
        if self.residual is None:
            return base
        try:
            with Path(self.residual).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        except OSError as error:
            raise EvaluationError(
                f"residual: expected a readable weights file, found: {error}"
            ) from error
        return f"{base}+residual:{digest}"


@dataclass(frozen=True, eq=False)
class LoadedCandidate:
    """A candidate that can act.

    Attributes:
        identity: of the candidate.
        base: its base policy.
        schedule: of the base policy's chunks.
        residual: None for the base policy alone.
    """

    identity: str
    base: BasePolicy
    schedule: ChunkSchedule
    residual: ResidualPolicy | None


def load_candidate(candidate: Candidate) -> LoadedCandidate:
    """Read its files.

    Raises:
        BasePolicyError, ValueError: the base policy cannot be made, or does not fit the schedule.
        EvaluationError: the residual is not one of this task, these images and this base policy.
    """
    task = get_task(candidate.task)
    identity = candidate.identity()
    base = load_base_policy(candidate.policy, task, candidate.path, device=candidate.device)
    schedule = ChunkSchedule.fitting(base.chunk_size, candidate.replan_interval, candidate.lead)
    residual = None
    if candidate.residual is not None:
        # Here, as it brings torch, which a policy without a network does without.
        from resfit_rl.agent import PolicyFileError, load_policy

        if not candidate.rendering:
            raise EvaluationError("residual: expected rendered cameras, found rendering off")
        try:
            residual, _ = load_policy(
                candidate.residual,
                task.name,
                task.agent_spec(candidate.image_size),
                candidate.device,
                expected_implementation=task.implementation,
                expected_base_policy=base.identity,
            )
        except PolicyFileError as error:
            raise EvaluationError(f"residual: {error}") from error
    return LoadedCandidate(identity, base, schedule, residual)
