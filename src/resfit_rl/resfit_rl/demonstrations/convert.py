"""Others' demonstrations to a data set of ours: ./resfit convert-demos task:=can file:=demo.hdf5"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from resfit_rl.demonstrations.dataset import write_demonstrations
from resfit_rl.demonstrations.demonstration import Demonstration, DemonstrationsError
from resfit_rl.demonstrations.foreign_layouts import (
    ForeignLayout,
    layout_of_data_set,
    read_layout,
)
from resfit_rl.demonstrations.hdf5 import HDF5Demonstrations, file_hash
from resfit_rl.demonstrations.hub import hub_folder, is_hub_name
from resfit_rl.demonstrations.identity import DemonstrationsIdentity
from resfit_rl.demonstrations.reading import load_demonstrations, tables_hash
from resfit_rl.tasks import Task, UnknownTaskError, get_task


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    options.out = options.out or Path("data/demos") / f"{options.task}_{Path(options.file).stem}"
    try:
        return _run(options)
    except (DemonstrationsError, UnknownTaskError, OSError) as error:
        print(f"convert-demos: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("convert-demos: stopped; nothing was kept, run it again", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m resfit_rl.demonstrations.convert",
        description="Write a data set of ours from a Robomimic or DexMimicGen HDF5 file with "
        "pictures, or from a LeRobotDataset that others recorded. All of it is checked.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--task", required=True, help="the task that it shows")
    parser.add_argument(
        "--file", required=True, help="HDF5 file, or folder or OWNER/NAME of a LeRobotDataset"
    )
    parser.add_argument("--out", type=Path, help="folder of the data set (None: data/demos/...)")
    parser.add_argument("--episodes", type=int, help="how many, the first ones (None: all)")
    parser.add_argument(
        "--image-size", type=int, nargs=2, default=(84, 84), metavar=("HEIGHT", "WIDTH"),
        help="that the pictures must have",
    )  # fmt: skip
    parser.add_argument(
        "--mapping", type=Path, help="YAML file that says what the keys mean; see foreign_layouts"
    )
    parser.add_argument(
        "--allow-other-implementation",
        action="store_true",
        help="take data of another scene than the task's; the data set says so in its identity",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.episodes is not None and options.episodes < 1:
        raise DemonstrationsError(f"--episodes: expected 1 or more, found {options.episodes}")
    if options.out.exists():
        raise DemonstrationsError(f"{options.out}: expected a new folder, found one that is there")
    task = get_task(options.task)
    layout = None if options.mapping is None else read_layout(options.mapping)
    if Path(options.file).is_file():
        count = _convert_hdf5(options, task, layout)
    else:
        count = _convert_data_set(options, task, layout)
    print(f"{options.out}: {count} episodes written", flush=True)
    return 0


def _convert_hdf5(options: argparse.Namespace, task: Task, layout: ForeignLayout | None) -> int:
    path, size = Path(options.file), tuple(options.image_size)
    source = HDF5Demonstrations(
        path,
        task,
        size,
        episodes=options.episodes,
        layout=layout,
        allow_other_implementation=options.allow_other_implementation,
    )
    for name in source.without_success:
        print(f"{name}: no success among its rewards, left out", flush=True)
    if not len(source):
        raise DemonstrationsError(f"{path}: expected demonstrations with success, found none")
    made_from = f"hdf5:{file_hash(path)}"
    identity = _identity(task, size, made_from, source.implementation, len(source))
    write_demonstrations(options.out, task, identity, _told(source.read(), len(source)))
    source.close()
    return len(source)


def _convert_data_set(options: argparse.Namespace, task: Task, layout: ForeignLayout | None) -> int:
    name, size = options.file, tuple(options.image_size)
    folder = Path(name)
    if not folder.is_dir():
        if not is_hub_name(name):
            raise DemonstrationsError(f"{name}: expected a file or a folder, found neither")
        folder = hub_folder(name)
    layout = layout or layout_of_data_set(name, folder)
    demonstrations = load_demonstrations(
        name,
        task,
        size,
        episodes=options.episodes,
        layout=layout,
        allow_other_implementation=options.allow_other_implementation,
    )
    made_from = f"lerobot:{Path(name).name}:{tables_hash(folder)}"
    count = len(demonstrations)
    identity = _identity(task, size, made_from, layout.implementation, count)
    named = ((f"episode {i}", demonstration) for i, demonstration in enumerate(demonstrations))
    write_demonstrations(options.out, task, identity, _told(named, count))
    return count


def _identity(
    task: Task, image_size: tuple[int, ...], made_from: str, implementation: str, episodes: int
) -> DemonstrationsIdentity:
    if implementation != task.implementation:
        made_from += f":recorded-in:{implementation}"
    return DemonstrationsIdentity(
        task=task.name,
        implementation=task.implementation,
        expert=made_from,
        image_size=(image_size[0], image_size[1]),
        seed=0,
        episodes=episodes,
    )


def _told(named: Iterable[tuple[str, Demonstration]], total: int) -> Iterator[Demonstration]:
    """The demonstrations, with a line of progress for each."""
    start = time.monotonic()
    for number, (name, demonstration) in enumerate(named, 1):
        yield demonstration
        left = (time.monotonic() - start) / number * (total - number)
        print(
            f"{name} ({number}/{total}): {len(demonstration.action)} frames, {left:.0f} s left",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
