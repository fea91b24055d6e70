"""A dataclass of plain values from a YAML file that must hold exactly its fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

import yaml

T = TypeVar("T")


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key}: expected once, found twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_dataclass[T](path: Path | str, kind: type[T]) -> T:
    """Read `path`, a YAML mapping with exactly the fields of the dataclass `kind`.

    Raises:
        ValueError: see read_mapping and dataclass_from_mapping.
    """
    return dataclass_from_mapping(read_mapping(path), kind, str(path))


def read_mapping(path: Path | str, root: Path | str | None = None) -> dict[Any, Any]:
    """The mapping in the YAML file `path`.

    A key `base` holds the path of another file, relative to this one's folder: its keys are
    taken over where this file does not have them.

    Args:
        root: a file that stands in for the last one of the chain of bases; None for that one.

    Raises:
        ValueError: unreadable file, no mapping, a key given twice, or a circle of bases; names the
            file, the expected and the found.
    """
    return _read_mapping(Path(path), (), None if root is None else Path(root))


def _read_mapping(path: Path, readers: tuple[Path, ...], root: Path | None) -> dict[Any, Any]:
    if path.resolve() in readers:
        raise ValueError(f"{path}: base: expected another file, found a circle")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise ValueError(f"{path}: expected a readable YAML file, found: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected valid YAML, found: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: expected a mapping of keys, found {type(raw).__name__}")
    base = raw.pop("base", None)
    if base is None:
        return raw if root is None or not readers else _read_mapping(root, (), None)
    if not isinstance(base, str):
        raise ValueError(f"{path}: base: expected a file's path, found {base!r}")
    return _read_mapping(path.parent / base, (*readers, path.resolve()), root) | raw


def dataclass_from_mapping[T](raw: dict[Any, Any], kind: type[T], where: str) -> T:
    """`kind` from its fields' values.

    Raises:
        ValueError: unknown or missing key, wrong type or impossible value; names `where`, the key,
            the expected and the found.
    """
    types = get_type_hints(kind)
    unknown = sorted(str(key) for key in raw if key not in types)
    if unknown:
        raise ValueError(f"{where}: {unknown[0]}: unknown key, expected one of {sorted(types)}")
    missing = [key for key in types if key not in raw]
    if missing:
        raise ValueError(f"{where}: {missing[0]}: expected a value, found none")
    values: dict[str, Any] = {}
    for key, expected in types.items():
        value = raw[key]
        if expected is float and type(value) is int:
            value = float(value)
        if type(value) is not (get_origin(expected) or expected):
            hint = ""
            if expected is float and isinstance(value, str):
                hint = " (YAML reads 1e-4 as text: write 1.0e-4)"
            raise ValueError(
                f"{where}: {key}: expected {expected.__name__}, found "
                f"{type(value).__name__} {value!r}{hint}"
            )
        values[key] = value
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
