"""`python -m resfit_rl.episode_store RUN_DIR`: a table of its episodes, each verified."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from resfit_rl.episode_store.store import (
    CorruptEpisodeError,
    EpisodeStore,
    read_episode_file,
    read_header,
)

_ROW = "{:>8}  {:<12} {:>6} {:>12} {:>11}  {}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when an episode is not whole or there is no such run."""
    parser = argparse.ArgumentParser(prog="python -m resfit_rl.episode_store", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="run directory, for example runs/square")
    run_dir = parser.parse_args(arguments).run_dir
    if not run_dir.is_dir():
        print(f"error: {run_dir}: expected a run directory, found none", file=sys.stderr)
        return 1
    store = EpisodeStore(run_dir)
    whole = True
    print(_ROW.format("episode", "outcome", "steps", "seed", "versions", "whole"))
    for episode_id in store.ids():
        path = store.path(episode_id)
        try:
            stored = read_header(path)
            versions = "{}-{}".format(*stored.policy_versions)
            row = [stored.outcome, stored.steps, stored.seed, versions]
            read_episode_file(path)
            print(_ROW.format(episode_id, *row, "yes"))
        except CorruptEpisodeError as error:
            whole = False
            print(_ROW.format(episode_id, "?", "?", "?", "?", f"no: {error}"))
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
