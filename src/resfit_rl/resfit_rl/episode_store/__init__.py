"""Episodes: in memory, put together from a recording, and on disk."""

from resfit_rl.episode_store.assembly import EpisodeAssembler, IncompleteEpisodeError
from resfit_rl.episode_store.episode import Episode, Outcome
from resfit_rl.episode_store.run import RunError, claim_role, open_run
from resfit_rl.episode_store.store import CorruptEpisodeError, EpisodeStore, StoredEpisode

__all__ = [
    "CorruptEpisodeError",
    "Episode",
    "EpisodeAssembler",
    "EpisodeStore",
    "IncompleteEpisodeError",
    "Outcome",
    "RunError",
    "StoredEpisode",
    "claim_role",
    "open_run",
]
