"""Which observation a base action is predicted from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChunkSchedule:
    """A new chunk for each `replan_interval` steps, predicted `lead` steps before its first use.

    The base action of a step is thus a function of the observations alone, however long a
    prediction takes: the same while acting and when demonstrations are relabelled.

    Raises:
        ValueError: replan_interval < 1, lead < 0, or lead >= replan_interval (two chunks would be
            owed at once).
    """

    replan_interval: int
    lead: int = 0

    def __post_init__(self) -> None:
        if self.replan_interval < 1:
            raise ValueError(
                f"chunk schedule: replan_interval: expected >= 1, found {self.replan_interval}"
            )
        if not 0 <= self.lead < self.replan_interval:
            raise ValueError(
                "chunk schedule: lead: expected >= 0 and below replan_interval = "
                f"{self.replan_interval}, found {self.lead}"
            )

    @staticmethod
    def fitting(chunk_size: int, replan_interval: int, lead: int) -> ChunkSchedule:
        """The schedule for chunks of `chunk_size`: (1, 0) for a policy of single actions.

        ValueError when it asks for more than a chunk holds.
        """
        if chunk_size == 1:
            return ChunkSchedule(1, 0)
        schedule = ChunkSchedule(replan_interval, lead)
        schedule.require_chunk_size(chunk_size)
        return schedule

    def source(self, step: int) -> int:
        """Step whose observation the base action of `step` is predicted from."""
        return max(0, step // self.replan_interval * self.replan_interval - self.lead)

    def newest_source(self, step: int) -> int:
        """Last step up to `step` whose observation a chunk must be predicted from."""
        return self.source(step + self.lead)

    def is_source(self, step: int) -> bool:
        """Whether a chunk must be predicted from the observation of `step`."""
        return self.newest_source(step) == step

    def require_chunk_size(self, chunk_size: int) -> None:
        """ValueError when chunks of `chunk_size` actions do not reach from source to last use."""
        if self.replan_interval + self.lead > chunk_size:
            raise ValueError(
                f"chunk schedule: expected replan_interval + lead <= {chunk_size}, the base "
                f"policy's chunk, found {self.replan_interval} + {self.lead}"
            )
