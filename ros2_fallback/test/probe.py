"""Prints, as JSON, the arguments of a launch file and what it starts; no process really runs.

Run with either the official packages or the fallback on PYTHONPATH: `probe.py FILE [a:=b ...]`.
"""

import json
import os
import sys
import tempfile

import yaml

try:
    import composition_interfaces.srv  # noqa: F401
except ImportError:
    # Official launch_ros imports it for composable nodes, which no wheel serves and nothing uses.
    from unittest.mock import MagicMock

    stand_in = MagicMock()
    sys.modules.update(
        {"composition_interfaces": stand_in, "composition_interfaces.srv": stand_in.srv}
    )

import launch_ros
from launch.actions import IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessStart
from launch.launch_description_sources import (
    PythonLaunchDescriptionSource,
    get_launch_description_from_python_launch_file,
)

import launch


def plain(value):
    """Tuples as lists, so that YAML of either writer compares equal."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


class Loader(yaml.SafeLoader):
    """Reads !!python/tuple, which yaml.dump writes for tuples."""


Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: loader.construct_sequence(node)
)


def readable(part):
    """A temporary parameter file is replaced by its content."""
    if part.startswith(os.path.join(tempfile.gettempdir(), "launch_params_")):
        with open(part) as file:
            return plain(yaml.load(file, Loader))
    return part


def main():
    path, *texts = sys.argv[1:]
    description = get_launch_description_from_python_launch_file(path)
    arguments = [
        {
            "name": a.name,
            "description": a.description,
            "choices": a.choices,
            "default": None
            if a.default_value is None
            else " + ".join(part.describe() for part in a.default_value),
            "conditional": a._conditionally_included,
        }
        for a in description.get_launch_arguments()
    ]
    started = []

    def on_start(event, context):
        inherited = {k: v for k, v in event.env.items() if os.environ.get(k) != v}
        cmd = [readable(part) for part in event.cmd]
        started.append({"name": event.process_name, "cmd": cmd, "cwd": event.cwd, "env": inherited})

    # Every command becomes an argument of `true`, by launch's own means.
    given = [tuple(text.split(":=", 1)) for text in ["launch-prefix:=true", *texts]]
    service = launch.LaunchService(noninteractive=True)
    service.include_launch_description(
        launch.LaunchDescription(
            [
                RegisterEventHandler(OnProcessStart(on_start=on_start)),
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource(path), launch_arguments=given
                ),
            ]
        )
    )
    code = service.run()
    started.sort(key=lambda item: int(item["name"].rsplit("-", 1)[1]))
    imported = [launch.__file__, launch_ros.__file__]
    result = {"arguments": arguments, "started": started, "code": code, "imported": imported}
    print("PROBE" + json.dumps(result))


main()
