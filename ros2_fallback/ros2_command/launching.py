"""`ros2 launch` and `ros2 run`."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch.launch_description_sources import get_launch_description_from_python_launch_file

import launch


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Declare `launch` and `run`."""
    p = commands.add_parser(
        "launch",
        help="Run a launch file",
        description="Run a launch file of a package, or by path. "
        "Ctrl-C ends all processes: SIGINT, 5 s later SIGTERM, 5 s later SIGKILL.",
        epilog="example: ros2 launch PACKAGE FILE.launch.py name:=value",
    )
    p.add_argument("-n", "--noninteractive", action="store_true", default=not sys.stdin.isatty(),
                   help="no terminal: on Ctrl-C, SIGINT is sent to the processes")  # fmt: skip
    p.add_argument("-d", "--debug", action="store_true", help="say what the launch system does")
    only = p.add_mutually_exclusive_group()
    only.add_argument("-p", "--print", "--print-description", action="store_true",
                      help="print the launch description and do not launch")  # fmt: skip
    only.add_argument("-s", "--show-args", "--show-arguments", action="store_true",
                      help="show the launch file's arguments and do not launch")  # fmt: skip
    p.add_argument("-a", "--show-all-subprocesses-output", action="store_true",
                   help="show all output of all processes")  # fmt: skip
    p.add_argument("--launch-prefix", help="command to put before every executable")
    p.add_argument("--launch-prefix-filter", help="regular expression of executables it is for")
    p.add_argument("package_name", help="package with the launch file, or path of a launch file")
    p.add_argument("launch_file_name", nargs="?", help="name of the launch file in the package")
    p.add_argument("launch_arguments", nargs="*", help="name:=value; the last of a name wins")
    p.set_defaults(call=_launch)

    p = commands.add_parser(
        "run",
        help="Run an executable of a package",
        description="Run an executable of a package; all that follows its name goes to it.",
        epilog="example: ros2 run PACKAGE EXECUTABLE --ros-args -p name:=value -r from:=to",
    )
    p.add_argument("--prefix", help="command to put before the executable, in quotes if it has "
                   "spaces")  # fmt: skip
    p.add_argument("package_name", help="package with the executable")
    p.add_argument("executable_name", help="name of the executable")
    p.set_defaults(call=_run)


def parse_launch_arguments(texts: list[str]) -> list[tuple[str, str]]:
    """[(name, value)] of 'name:=value' texts; RuntimeError names a malformed one."""
    values: dict[str, str] = {}
    for text in texts:
        name, mark, value = text.partition(":=")
        if not mark or not name or not value:
            raise RuntimeError(
                f"malformed launch argument '{text}', expected format '<name>:=<value>'"
            )
        values[name] = value
    return list(values.items())


def _find_launch_file(package: str, file_name: str) -> str:
    try:
        share = get_package_share_directory(package)
    except PackageNotFoundError as exc:
        raise RuntimeError(f"Package '{package}' not found: {exc}") from exc
    except ValueError as exc:  # not a package's name at all, as a path that does not exist
        raise RuntimeError(f"'{package}' is neither a launch file nor a package: {exc}") from exc
    found = [
        os.path.join(root, file_name) for root, _, files in os.walk(share) if file_name in files
    ]
    if not found:
        raise RuntimeError(
            f"file '{file_name}' was not found in the share directory of package '{package}' "
            f"which is at '{share}'"
        )
    if len(found) > 1:
        raise RuntimeError(
            f"file '{file_name}' was found more than once in the share directory of package "
            f"'{package}': {found}"
        )
    return found[0]


def show_arguments(description: launch.LaunchDescription) -> str:
    """The arguments of a launch description as `--show-args` prints them."""
    lines = ["Arguments (pass arguments as '<name>:=<value>'):"]
    arguments = description.get_launch_arguments()
    for argument in arguments:
        star = "*" if argument._conditionally_included else ""
        lines += ["", f"    '{argument.name}':{star}", f"        {argument.description}"]
        if argument.default_value is not None:
            default = " + ".join(part.describe() for part in argument.default_value)
            lines.append(f"        (default: {default})")
    if not arguments:
        lines += ["", "  No arguments."]
    elif any(a._conditionally_included for a in arguments):
        lines += ["", "* argument(s) which are only used if specific conditions occur"]
    return "\n".join(lines)


def _launch(args: argparse.Namespace) -> int | str:
    texts = list(args.launch_arguments)
    if os.path.isfile(args.package_name):
        path = args.package_name
        if args.launch_file_name is not None:
            texts.insert(0, args.launch_file_name)
    elif args.launch_file_name is None:
        raise RuntimeError(f"'{args.package_name}': no such file, and no launch file of a package")
    else:
        path = _find_launch_file(args.package_name, args.launch_file_name)
    if args.launch_prefix is None and args.launch_prefix_filter is not None:
        raise RuntimeError(
            "--launch-prefix must be specified if --launch-prefix-filter is provided"
        )
    if args.show_all_subprocesses_output:
        os.environ["OVERRIDE_LAUNCH_PROCESS_OUTPUT"] = "both"
    if args.print or args.show_args:
        description = get_launch_description_from_python_launch_file(path)
        if args.print:
            print(launch.LaunchIntrospector().format_launch_description(description))
        else:
            print(show_arguments(description))
        return 0
    if args.launch_prefix:
        texts.append(f"launch-prefix:={args.launch_prefix}")
    if args.launch_prefix_filter:
        texts.append(f"launch-prefix-filter:={args.launch_prefix_filter}")
    service = launch.LaunchService(argv=texts, noninteractive=args.noninteractive, debug=args.debug)
    include = launch.actions.IncludeLaunchDescription(
        launch.launch_description_sources.AnyLaunchDescriptionSource(path),
        launch_arguments=parse_launch_arguments(texts),
    )
    service.include_launch_description(launch.LaunchDescription([include]))
    return service.run()


def _run(args: argparse.Namespace, rest: list[str]) -> int | str:
    package, name = args.package_name, args.executable_name
    try:
        folder = Path(get_package_prefix(package)) / "lib" / package
    except (PackageNotFoundError, ValueError) as exc:
        raise RuntimeError(f"Package '{package}' not found") from exc
    found = [
        p for p in folder.rglob(name) if p.name == name and p.is_file() and os.access(p, os.X_OK)
    ]
    if len(found) > 1:
        raise RuntimeError("Multiple executables found:" + "".join(f"\n- {p}" for p in found))
    if not found:
        return "No executable found"
    process = subprocess.Popen([*shlex.split(args.prefix or ""), str(found[0]), *rest])
    while process.returncode is None:
        # On Ctrl-C the terminal has sent it to the child as well.
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
    code = process.returncode
    if code < 0:
        print("[ros2run]:", signal.strsignal(-code))
    elif code > 0:
        print(f"[ros2run]: Process exited with failure {code}")
    return code
