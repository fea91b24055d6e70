"""Messages from and to text: type names, YAML values, fields."""

from __future__ import annotations

import array
import importlib
import re
from typing import Any

import numpy as np
import yaml


def interface_class(name: str, kind: str) -> Any:
    """The class of 'package/kind/Name' or 'package/Name'; kind is msg or srv."""
    parts = name.split("/")
    if len(parts) == 2:
        parts.insert(1, kind)
    if len(parts) != 3 or parts[1] != kind:
        raise RuntimeError(f"type '{name}': expected 'package/{kind}/Name'")
    try:
        return getattr(importlib.import_module(f"{parts[0]}.{kind}"), parts[2])
    except (ImportError, AttributeError) as exc:
        raise RuntimeError(f"type '{name}' is not known here: {exc}") from exc


def to_plain(value: Any, *, no_arr: bool = False, limit: int | None = None) -> Any:
    """A message as dicts, lists and scalars; arrays longer than `limit` are cut, or left out."""
    if hasattr(value, "get_fields_and_field_types"):
        out = {}
        for name, type_text in value.get_fields_and_field_types().items():
            item = getattr(value, name)
            if no_arr and isinstance(item, (list, tuple, array.array, np.ndarray, bytes)):
                out[name] = f"<array type: {type_text}, length: {len(item)}>"
            else:
                out[name] = to_plain(item, no_arr=no_arr, limit=limit)
        return out
    if isinstance(value, (list, tuple, array.array, np.ndarray)):
        cut = limit is not None and len(value) > limit
        items = [to_plain(v, no_arr=no_arr, limit=limit) for v in value[: limit if cut else None]]
        return [*items, "..."] if cut else items
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return int.from_bytes(value, "little") if len(value) == 1 else list(value)
    return value


def to_yaml(value: Any, **options: Any) -> str:
    """YAML text of a message or field, in the order of its fields."""
    plain = to_plain(value, **options)
    if not isinstance(plain, (dict, list)):
        return f"{plain}\n"
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=float("inf"))


def select_field(message: Any, path: str) -> Any:
    """`message.a.b[0]` for path 'a.b[0]'; RuntimeError names what is not there."""
    value = message
    for part in path.split("."):
        match = re.fullmatch(r"(\w+)((?:\[-?\d+\])*)", part)
        if match is None or not hasattr(value, match[1]):
            raise RuntimeError(f"Invalid field '{path}': no '{part}' in {type(value).__name__}")
        value = getattr(value, match[1])
        for index in re.findall(r"-?\d+", match[2]):
            try:
                value = value[int(index)]
            except (IndexError, TypeError) as exc:
                raise RuntimeError(f"Invalid field '{path}': {exc}") from exc
    return value


def _converted(current: Any, value: Any, type_text: str) -> Any:
    if hasattr(current, "get_fields_and_field_types"):
        fill(current, value)
        return current
    if isinstance(current, np.ndarray):
        return np.array(value, dtype=current.dtype)
    if isinstance(current, array.array):
        return array.array(current.typecode, value)
    if isinstance(current, bytes):
        return bytes([value])
    if isinstance(current, list):
        inner = re.match(r"(?:sequence<)?([a-zA-Z_0-9]+/[a-zA-Z_0-9]+)", type_text)
        if inner is None:
            return list(value)
        made = interface_class(inner[1], "msg")
        return [_converted(made(), item, inner[1]) for item in value]
    if isinstance(current, float):
        return float(value)
    if isinstance(current, str):
        return str(value)
    return value


def fill(message: Any, values: Any) -> None:
    """Set fields of `message` from a dict; RuntimeError names the wrong field."""
    if not isinstance(values or {}, dict):
        raise RuntimeError(f"{type(message).__name__}: expected a YAML dict, got {values!r}")
    fields = message.get_fields_and_field_types()
    for name, value in (values or {}).items():
        if name not in fields:
            raise RuntimeError(
                f"{type(message).__name__}: no field '{name}'; it has {', '.join(fields)}"
            )
        try:
            setattr(message, name, _converted(getattr(message, name), value, fields[name]))
        except (AssertionError, TypeError, ValueError) as exc:
            raise RuntimeError(
                f"{type(message).__name__}.{name}: expected {fields[name]}, got {value!r}"
            ) from exc
