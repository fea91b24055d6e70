"""Parameters of nodes as launch files write them, and what they come to."""

from __future__ import annotations

import atexit
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch.core import (
    LaunchContext,
    SomeSubstitutionsType,
    Substitution,
    SubstitutionFailure,
    normalize,
    normalize_typed,
    perform,
    perform_typed,
)
from launch.substitutions import (
    EnvironmentVariable,
    LaunchConfiguration,
    PythonExpression,
    ThisLaunchFileDir,
)

__all__ = ["Parameter", "ParameterFile", "ParameterValue"]

_SUBSTITUTION = re.compile(r"\$\((?P<name>[a-z-]+)(?:\s+(?P<args>[^()$]*|'[^']*'|\"[^\"]*\"))?\)")


def write_temporary(text: str) -> str:
    """Write a parameter file that lives as long as this launch; its path."""
    with tempfile.NamedTemporaryFile("w", prefix="launch_params_", delete=False) as file:
        file.write(text)
    atexit.register(lambda: Path(file.name).unlink(missing_ok=True))
    return file.name


class ParameterValue:
    """A value with the type it shall have (None: by YAML rules)."""

    def __init__(self, value: Any, *, value_type: Any = None) -> None:
        self.value = normalize_typed(value, value_type)
        self.value_type = value_type

    def evaluate(self, context: LaunchContext) -> Any:
        return perform_typed(context, self.value, self.value_type)


class Parameter:
    """A named value, passed on the node's command line."""

    def __init__(self, name: SomeSubstitutionsType, value: Any, *, value_type: Any = None) -> None:
        self.name = normalize(name)
        self._value = ParameterValue(value, value_type=value_type)

    def evaluate(self, context: LaunchContext) -> tuple[str, Any]:
        return perform(context, self.name), self._value.evaluate(context)


class ParameterFile:
    """A parameter file, in which $(var x) and the like are replaced if `allow_substs`."""

    def __init__(self, param_file: Any, *, allow_substs: bool = False) -> None:
        self._parts = normalize(os.fsdecode(param_file) if isinstance(param_file, bytes)
                                else param_file)  # fmt: skip
        self._allow_substs = normalize_typed(allow_substs, bool)

    def evaluate(self, context: LaunchContext) -> str:
        path = perform(context, self._parts)
        if not perform_typed(context, self._allow_substs, bool):
            return path
        text = _replace_substitutions(context, Path(path).read_text(), path)
        try:
            yaml.safe_load(text)
        except yaml.YAMLError as exc:
            raise SubstitutionFailure(
                f"parameter file '{path}': not valid YAML after substitution: {exc}"
            ) from exc
        return write_temporary(text)


def _replace_substitutions(context: LaunchContext, text: str, path: str) -> str:
    """Replace innermost $(...) first, until none is left."""

    def value_of(match: re.Match) -> str:
        name, argument = match["name"], (match["args"] or "").strip()
        first, _, rest = argument.partition(" ")
        default = {} if not rest else {"default": rest.strip(" '\"")}
        if name == "var":
            return LaunchConfiguration(first, **default).perform(context)
        if name == "env":
            fallback = rest.strip(" '\"") if rest else None
            return EnvironmentVariable(first, default_value=fallback).perform(context)
        if name == "find-pkg-share":
            return get_package_share_directory(argument)
        if name == "find-pkg-prefix":
            return get_package_prefix(argument)
        if name == "dirname":
            return ThisLaunchFileDir().perform(context)
        if name == "eval":
            quoted = len(argument) > 1 and argument[0] == argument[-1] and argument[0] in "'\""
            return PythonExpression(argument[1:-1] if quoted else argument).perform(context)
        raise SubstitutionFailure(
            f"parameter file '{path}': expected var, env, find-pkg-share, find-pkg-prefix, "
            f"dirname or eval in $(...), found '{name}'"
        )

    # Comments may mention $(...) without meaning it only as far as official launch allows: not.
    while _SUBSTITUTION.search(text):
        text = _SUBSTITUTION.sub(value_of, text)
    return text


def _uniform(name: str, values: list) -> list:
    if not values or any(
        type(v) is not type(values[0]) or not isinstance(v, (bool, int, float, str)) for v in values
    ):
        raise TypeError(
            f"parameter '{name}': expected a non-empty list of bool, int, float or str, all of "
            f"one type, got {values!r}"
        )
    return values


def _from_text(name: str, text: str) -> Any:
    """A substitution's text by YAML rules."""
    try:
        value = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as exc:
        raise TypeError(
            f"parameter '{name}': '{text}' is not valid YAML; "
            "for a string use ParameterValue(value, value_type=str)"
        ) from exc
    if isinstance(value, list):
        return _uniform(name, value)
    if not isinstance(value, (bool, int, float, str, bytes)):
        raise TypeError(
            f"parameter '{name}': expected bool, int, float, str or a list of them, got "
            f"{type(value)}; for a string use ParameterValue(value, value_type=str)"
        )
    return value


def _from_list(context: LaunchContext, name: str, values: Sequence) -> Any:
    kinds = {Substitution if isinstance(v, Substitution) else type(v) for v in values}
    if kinds == {int, float}:
        return [float(v) for v in values]
    if Substitution in kinds and kinds <= {str, Substitution}:
        return _from_text(name, perform(context, normalize(values)))
    out = []
    for value in values:
        if isinstance(value, (bool, int, float, str)):
            out.append(value)
        else:  # a list of substitutions, or one beside numbers: its text by YAML rules
            out.append(yaml.safe_load(perform(context, normalize(value))))
    return _uniform(name, out)


def evaluate_parameters(context: LaunchContext, values: Mapping, prefix: str = "") -> dict:
    """{full name: value} of a dict of parameters; nested dicts become dotted names."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + perform(context, normalize(key))
        if isinstance(value, Mapping):
            out.update(evaluate_parameters(context, value, f"{name}."))
        elif isinstance(value, ParameterValue):
            out[name] = value.evaluate(context)
        elif isinstance(value, Substitution):
            out[name] = _from_text(name, perform(context, [value]))
        elif isinstance(value, (bool, int, float, str, bytes)):
            out[name] = value
        elif isinstance(value, Sequence):
            out[name] = _from_list(context, name, value)
        else:
            raise TypeError(f"parameter '{name}': unexpected value {value!r}")
    return out
