"""In which order the learner does its work."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from resfit_rl.learning.learner import Learner
from resfit_rl.learning.publication import Publication


class LearningLoop:
    """Publishes, saves, makes the owed updates, takes in the next episode: one piece at a time.

    Weights are published while updates are owed after each `publish_every` of them, when none is
    owed any more, and when the warm-up ends. A checkpoint is saved while updates are owed each
    `checkpoint_period` s, and when none is owed any more.

    Args:
        save_when_done: false: checkpoints are saved each `checkpoint_period` s only. Nothing is
            lost without: what came after a checkpoint is learned again from the stored episodes.
        on_publication: called with each publication and whether episodes are still to be
            collected with warm-up noise.
        log: called with one line for each notable event.

    Attributes:
        updates_per_second: over the newest burst; NaN before.
    """

    def __init__(
        self,
        learner: Learner,
        *,
        publish_every: int,
        checkpoint_period: float,
        save_when_done: bool = True,
        on_publication: Callable[[Publication, bool], None],
        log: Callable[[str], None],
    ) -> None:
        self.learner = learner
        self.updates_per_second = math.nan
        self._publish_every = publish_every
        self._checkpoint_period = checkpoint_period
        self._save_when_done = save_when_done
        self._on_publication = on_publication
        self._log = log
        self._announced_warm_up: bool | None = None
        self._unsaved = False
        self._saved_at = time.monotonic()
        self._made = 0  # updates since the last episode was taken in
        self._seconds = 0.0  # and the time they took

    @property
    def settled(self) -> bool:
        """Whether all is learned from what was taken in, and the weights are published."""
        return not self.learner.updates_owed and not self._publication_due()

    def step(self, time_budget: float, newest_episode: int | None = None) -> bool:
        """Do one piece of work, in updates not much longer than `time_budget` s.

        Args:
            newest_episode: largest id of an episode to take in; None takes any.

        Returns:
            False when there is nothing to do until another episode is stored.

        Raises:
            OSError: weights or checkpoint could not be written; the next step tries again.
            DivergedError: see Learner; nothing more can be learned.
        """
        learner = self.learner
        if self._announced_warm_up is None:
            # A policy that starts anew gets the newest weights at once.
            self._announce(learner.newest_publication() or learner.publish_weights())
        elif self._publication_due():
            self._announce(learner.publish_weights())
        elif self._unsaved and (
            (self._save_when_done and not learner.updates_owed)
            or time.monotonic() - self._saved_at >= self._checkpoint_period
        ):
            self.save()
        elif learner.updates_owed:
            self._update(time_budget)
        else:
            return self._ingest(newest_episode)
        return True

    def save(self) -> Path:
        """Save a checkpoint now. Raises as Learner.save_checkpoint does."""
        path = self.learner.save_checkpoint()
        self._unsaved = False
        self._saved_at = time.monotonic()
        return path

    def _publication_due(self) -> bool:
        learner = self.learner
        since = learner.updates - learner.published_updates
        return (
            since >= self._publish_every
            or (since > 0 and not learner.updates_owed)
            or self._announced_warm_up != learner.warm_up
        )

    def _announce(self, publication: Publication) -> None:
        self._announced_warm_up = self.learner.warm_up
        self._on_publication(publication, self.learner.warm_up)
        self._log(
            f"weights version {publication.version} published after {self.learner.updates} updates"
            + (", for warm-up" if self.learner.warm_up else "")
        )

    def _update(self, time_budget: float) -> None:
        learner = self.learner
        start = time.monotonic()
        until_publication = self._publish_every - (learner.updates - learner.published_updates)
        made = learner.update(until_publication, time_budget)
        seconds = time.monotonic() - start
        self.updates_per_second = made / seconds
        self._made += made
        self._seconds += seconds
        self._unsaved = True
        if not learner.updates_owed:
            loss = next(name for name in learner.metrics if name.endswith("_loss"))
            self._log(
                f"{self._made} updates made at {self._made / self._seconds:.1f}/s, "
                f"{learner.updates} in all, {loss} {learner.metrics[loss]:.3g}"
            )
            self._made, self._seconds = 0, 0.0

    def _ingest(self, newest_episode: int | None) -> bool:
        learner = self.learner
        episode = learner.ingest(newest_episode)
        if episode is None:
            return False
        self._unsaved = True
        self._log(
            f"episode {episode.episode_id} taken in: {episode.outcome}, {len(episode)} steps; "
            f"{learner.environment_steps} steps in all, {learner.updates_owed} updates owed"
        )
        return True
