"""Record demonstrations: python -m resfit_rl.demonstrations --task square."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.base_policies.scripted import ScriptedExpert
from resfit_rl.demonstrations.dataset import (
    Demonstration,
    DemonstrationsError,
    DemonstrationsIdentity,
    read_identity,
    write_demonstrations,
)
from resfit_rl.demonstrations.recording import record
from resfit_rl.tasks import UnknownTaskError, get_task


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m resfit_rl.demonstrations",
        description="Write successful episodes of the scripted expert to a LeRobotDataset.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--task", default="square", help="can or square")
    parser.add_argument("--out", type=Path, help="folder of the data set (None: data/demos/TASK)")
    parser.add_argument("--episodes", type=_positive, default=50, help="successful episodes")
    parser.add_argument("--seed", type=int, default=1000, help="of the first episode")
    parser.add_argument("--workers", type=_positive, default=2, help="processes that record")
    parser.add_argument(
        "--image-size", type=_positive, nargs=2, default=(84, 84), metavar=("HEIGHT", "WIDTH")
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="a data set of the task that is there already is enough, whatever its size and seed",
    )
    options = parser.parse_args(arguments)
    options.out = options.out or Path("data/demos") / options.task
    try:
        return _run(options)
    except (BasePolicyError, DemonstrationsError, UnknownTaskError) as error:
        print(f"demonstrations: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demonstrations: stopped; nothing was kept, run it again", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    task = get_task(options.task)
    identity = DemonstrationsIdentity(
        task=task.name,
        implementation=task.implementation,
        expert=ScriptedExpert(task.name).identity,
        image_size=options.image_size,
        seed=options.seed,
        episodes=options.episodes,
    )
    if options.out.exists():
        found = read_identity(options.out)
        if options.keep:
            identity = replace(identity, seed=found.seed, episodes=found.episodes)
        found.require(identity, options.out)
        print(f"{options.out}: complete, {found.episodes} episodes", flush=True)
        return 0
    recorded = record(task.name, identity.image_size, options.seed, options.workers)
    try:
        write_demonstrations(options.out, task, identity, _successes(recorded, options.episodes))
    finally:
        recorded.close()  # ends the worker processes
    print(f"{options.out}: {options.episodes} episodes written", flush=True)
    return 0


def _successes(
    recorded: Iterator[tuple[int, Demonstration | None]], wanted: int
) -> Iterator[Demonstration]:
    """The first `wanted` successes, with a line of progress for each."""
    start = time.monotonic()
    kept = tried = steps = 0
    for seed, demonstration in recorded:
        tried += 1
        if demonstration is None:
            print(f"seed {seed}: not solved, left out", flush=True)
            if tried >= 10 and kept < tried / 2:
                raise DemonstrationsError(
                    f"recording: expected most episodes to succeed, found {kept} of {tried}"
                )
            continue
        kept += 1
        steps += len(demonstration.action)
        yield demonstration
        seconds = time.monotonic() - start
        print(
            f"episode {kept}/{wanted} seed {seed}: {len(demonstration.action)} steps, "
            f"success {kept}/{tried}, {steps / seconds:.1f} steps/s, "
            f"{seconds / kept * (wanted - kept):.0f} s left",
            flush=True,
        )
        if kept == wanted:
            return


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
