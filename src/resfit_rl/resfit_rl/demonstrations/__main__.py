"""Record demonstrations: python -m resfit_rl.demonstrations --task square."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.base_policies.scripted import ScriptedExpert
from resfit_rl.demonstrations.dataset import partial_folder, write_demonstrations
from resfit_rl.demonstrations.demonstration import Demonstration, DemonstrationsError
from resfit_rl.demonstrations.disturbance import disturbed_identity
from resfit_rl.demonstrations.episode_files import Attempt, EpisodeFiles
from resfit_rl.demonstrations.identity import DemonstrationsIdentity, read_own_identity
from resfit_rl.demonstrations.recording import Recording, record
from resfit_rl.episode_store.run import RunError, claim_role
from resfit_rl.tasks import UnknownTaskError, get_task


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    options.out = options.out or Path("data/demos") / options.task
    kept = f"what is recorded is kept in {partial_folder(options.out)}"
    try:
        return _run(options)
    except (BasePolicyError, DemonstrationsError, RunError, UnknownTaskError) as error:
        print(f"demonstrations: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"demonstrations: {error}; {kept}, run it again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"demonstrations: stopped; {kept}, run it again to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m resfit_rl.demonstrations",
        description="Write successful episodes of the scripted expert to a LeRobotDataset. "
        "Interrupted, it goes on where it was when it is run again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--task", default="square", help="a task that has a scripted expert")
    parser.add_argument("--out", type=Path, help="folder of the data set (None: data/demos/TASK)")
    parser.add_argument("--episodes", type=_positive, default=50, help="successful episodes")
    parser.add_argument("--seed", type=_not_negative, default=1000, help="of the first episode")
    parser.add_argument(
        "--workers",
        type=_positive,
        default=len(os.sched_getaffinity(0)),
        help="processes that record; the data set is the same for any number",
    )
    parser.add_argument(
        "--image-size", type=_positive, nargs=2, default=(84, 84), metavar=("HEIGHT", "WIDTH")
    )
    parser.add_argument(
        "--disturbance",
        type=_share,
        default=0.0,
        help="now and then the robot is pushed by up to this share of half the arms' action "
        "range, while the expert's own action is recorded",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="a data set of the task that is there already is enough, whatever its size and seed",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    task = get_task(options.task)
    expert = ScriptedExpert(task.name).identity
    identity = DemonstrationsIdentity(
        task=task.name,
        implementation=task.implementation,
        expert=disturbed_identity(expert, options.disturbance),
        image_size=options.image_size,
        seed=options.seed,
        episodes=options.episodes,
    )
    if options.out.exists():
        found = read_own_identity(options.out)
        if options.keep:
            identity = replace(identity, seed=found.seed, episodes=found.episodes)
        found.require(identity, options.out)
        shutil.rmtree(partial_folder(options.out), ignore_errors=True)
        print(f"{options.out}: complete, {found.episodes} episodes", flush=True)
        return 0
    partial = partial_folder(options.out)
    partial.mkdir(parents=True, exist_ok=True)
    recording = Recording(
        task.name, identity.image_size, options.disturbance, identity.seed, identity.episodes
    )
    with claim_role(partial, "recorder"):
        files = EpisodeFiles(partial, task, identity)
        attempts = record(recording, files, options.workers)
        seeds = _successes(attempts, options.episodes)
        write_demonstrations(options.out, task, identity, _read(files, seeds))
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{options.out}: {options.episodes} episodes written", flush=True)
    return 0


def _read(files: EpisodeFiles, seeds: list[int]) -> Iterator[Demonstration]:
    """The episodes, with a line of progress now and then."""
    told = time.monotonic()
    for number, seed in enumerate(seeds):
        if time.monotonic() - told > 5:
            told = time.monotonic()
            print(f"data set: {number}/{len(seeds)} episodes", flush=True)
        yield files.read(seed)


def _successes(attempts: Generator[Attempt, None, None], wanted: int) -> list[int]:
    """Their seeds; a line of progress for each attempt."""
    try:
        return list(_told(attempts, wanted))
    finally:
        attempts.close()  # ends the worker processes


def _told(attempts: Iterable[Attempt], wanted: int) -> Iterator[int]:
    start = time.monotonic()
    successes = tried = kept = new = steps = 0
    for attempt in attempts:
        tried += 1
        if attempt.steps is None:
            print(f"seed {attempt.seed}: not solved, left out", flush=True)
            if tried >= 10 and successes < tried / 2:
                raise DemonstrationsError(
                    f"recording: expected most episodes to succeed, found {successes} of {tried}"
                )
            continue
        successes += 1
        line = f"episode {successes}/{wanted} seed {attempt.seed}: {attempt.steps} steps, "
        line += f"success {successes}/{tried}, "
        if attempt.kept:
            kept += 1
            line += "kept from before"
        else:
            new += 1
            steps += attempt.steps
            seconds = time.monotonic() - start
            left = seconds / new * (wanted - successes)
            line += f"{steps / seconds:.1f} steps/s, {left:.0f} s left"
            line += f" ({kept} kept from before)" if kept else ""
        print(line, flush=True)
        yield attempt.seed


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {value}")
    return value


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, found {value}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, found {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
