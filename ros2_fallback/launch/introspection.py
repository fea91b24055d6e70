"""A launch description as text, for `ros2 launch --print`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .actions import EmitEvent, ExecuteProcess, LogInfo, RegisterEventHandler
from .core import Action, LaunchDescription, normalize


def _text(parts: Any) -> str:
    return " + ".join(part.describe() for part in normalize(parts))


def _lines(entities: Iterable) -> list[tuple[int, str]]:
    """[(depth, text)] of the entities."""
    out: list[tuple[int, str]] = []
    for entity in entities:
        if isinstance(entity, LogInfo):
            out.append((0, f"LogInfo({_text(entity.msg)})"))
        elif isinstance(entity, EmitEvent):
            out.append((0, f"EmitEvent(event='{entity.event.name}')"))
        elif isinstance(entity, ExecuteProcess):
            cmd = ", ".join(_text(part) for part in entity.cmd)
            cwd = None if entity.cwd is None else f"'{_text(entity.cwd)}'"
            env = None
            if entity.env is not None:
                env = "{" + ", ".join(f"{_text(k)}: {_text(v)}" for k, v in entity.env) + "}"
            out.append(
                (0, f"ExecuteProcess(cmd=[{cmd}], cwd={cwd}, env={env}, shell={entity.shell})")
            )
        elif isinstance(entity, RegisterEventHandler):
            handler = entity.event_handler
            out.append((0, f"RegisterEventHandler('{handler}'):"))
            out.append((1, type(handler).__name__))
            out += [(depth + 2, text) for depth, text in _lines(handler.described_entities())]
        elif isinstance(entity, Action):
            out.append((0, f"Action('{entity}')"))
        else:
            out.append((0, f"Unknown entity('{entity}')"))
    return out


class LaunchIntrospector:
    """Formats launch descriptions as a tree."""

    def format_launch_description(self, launch_description: LaunchDescription) -> str:
        lines = _lines(launch_description.entities)
        out = [str(launch_description)]
        for index, (depth, text) in enumerate(lines):
            bars = ""
            for level in range(depth + 1):
                # Does this branch go on below, before the tree climbs above it?
                goes_on = False
                for later, _ in lines[index + 1 :]:
                    if later <= level:
                        goes_on = later == level
                        break
                if level == depth:
                    bars += "├── " if goes_on else "└── "
                else:
                    bars += "│   " if goes_on else "    "
            out.append(bars + text)
        return "\n".join(out)
