"""Texts of message definitions as recordings carry them: schema encoding `ros2msg`."""

import functools
import re
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

_PRIMITIVE = frozenset(
    ["bool", "byte", "char", "float32", "float64", "string", "wstring"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_SEPARATOR = "=" * 80
_FIELD = re.compile(r"^\s*(?P<type>[A-Za-z][\w/]*)(<=\d+)?(\[[^\]]*\])?\s+[a-z]\w*")


class DefinitionError(ValueError):
    """The definition of a message is not installed; names it and the file."""


def type_name(kind: type) -> str:
    """'sensor_msgs/msg/Image' of the class of that message."""
    package, namespace, _ = kind.__module__.split(".", 2)
    return f"{package}/{namespace}/{kind.__name__}"


@functools.cache
def message_definition(name: str) -> str:
    """The .msg text of 'package/msg/Type', followed by those of all types within it.

    Raises:
        DefinitionError: a package or file of them is not installed.
    """
    package, _, kind = name.split("/")
    text = _text(package, kind)
    parts = [text]
    seen = {(package, kind)}
    open_types = _used_types(package, text)
    while open_types:
        used = open_types.pop(0)
        if used in seen:
            continue
        seen.add(used)
        inner = _text(*used)
        parts += [f"{_SEPARATOR}\nMSG: {used[0]}/{used[1]}", inner]
        open_types += _used_types(used[0], inner)
    return "\n".join(parts)


def _used_types(package: str, text: str) -> list[tuple[str, str]]:
    """(package, type) of each field that is a message, in order."""
    found = []
    for line in text.splitlines():
        match = _FIELD.match(line)
        if match is None or match["type"] in _PRIMITIVE:
            continue
        *outer, kind = match["type"].split("/")
        found.append((outer[0] if outer else package, kind))
    return found


def _text(package: str, kind: str) -> str:
    try:
        file = Path(get_package_share_directory(package), "msg", f"{kind}.msg")
        return file.read_text(encoding="utf-8")
    except (PackageNotFoundError, OSError) as error:
        raise DefinitionError(
            f"{package}/msg/{kind}: expected its definition in an installed package, found {error}"
        ) from None
