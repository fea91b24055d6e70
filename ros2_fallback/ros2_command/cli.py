"""Argument parsing and dispatch of `ros2 COMMAND [VERB]`."""

from __future__ import annotations

import argparse
import signal
import sys

from . import launching


def _graph_commands(commands: argparse._SubParsersAction) -> None:
    from . import graph

    graph.add_commands(commands)


def main(argv: list[str]) -> int | str | None:
    """Run one command; the exit status, or a text that says what went wrong (status 1)."""
    parser = argparse.ArgumentParser(
        prog="ros2",
        description="ROS 2 command line (the resfit fallback subset, for machines without ROS 2).",
    )
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    launching.add_commands(commands)
    _graph_commands(commands)
    # argparse would take `--ros-args` and what follows for its own options.
    args, rest = _parse(parser, argv)
    if not hasattr(args, "call"):
        (getattr(args, "own_parser", None) or parser).print_help()
        return 0
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        return args.call(args) if rest is None else args.call(args, rest)
    except KeyboardInterrupt:
        return int(signal.SIGINT)
    except (RuntimeError, OSError) as exc:
        return str(exc)


def _parse(
    parser: argparse.ArgumentParser, argv: list[str]
) -> tuple[argparse.Namespace, list[str] | None]:
    """`ros2 run` keeps all that follows the executable's name for the executable."""
    if argv[:1] != ["run"]:
        return parser.parse_args(argv), None
    index, positional = 1, 0
    while index < len(argv) and positional < 2:
        if argv[index] == "--prefix":
            index += 2
            continue
        positional += not argv[index].startswith("-")
        index += 1
    return parser.parse_args(argv[:index]), argv[index:]
