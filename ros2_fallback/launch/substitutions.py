"""Substitutions: text that is known only while launching."""

from __future__ import annotations

import importlib
import math
import os
import shlex
import shutil
import subprocess
from typing import Any

from . import logging as launch_logging
from .core import (
    LaunchContext,
    SomeSubstitutionsType,
    Substitution,
    SubstitutionFailure,
    TextSubstitution,
    coerce,
    is_substitution,
    normalize,
    perform,
)

__all__ = [
    "AndSubstitution", "Command", "EnvironmentVariable", "EqualsSubstitution", "FindExecutable",
    "IfElseSubstitution", "LaunchConfiguration", "NotEqualsSubstitution", "NotSubstitution",
    "OrSubstitution", "PathJoinSubstitution", "PythonExpression", "SubstitutionFailure",
    "TextSubstitution", "ThisLaunchFileDir",
]  # fmt: skip


def _described(parts: list[Substitution]) -> str:
    return " + ".join(part.describe() for part in parts)


class LaunchConfiguration(Substitution):
    """The value of a launch argument or configuration."""

    def __init__(self, variable_name: SomeSubstitutionsType, *, default: Any = None) -> None:
        self.variable_name = normalize(variable_name)
        self._default = None
        if default is not None:
            items = default if isinstance(default, (list, tuple)) else [default]
            self._default = normalize(
                [v if isinstance(v, (str, Substitution)) else str(v) for v in items]
            )

    def describe(self) -> str:
        return f"LaunchConfig({_described(self.variable_name)})"

    def perform(self, context: LaunchContext) -> str:
        name = perform(context, self.variable_name)
        if name in context.launch_configurations:
            return context.launch_configurations[name]
        if self._default is None:
            raise SubstitutionFailure(f"launch configuration '{name}' does not exist")
        return perform(context, self._default)


class EnvironmentVariable(Substitution):
    """The value of an environment variable of the launch process."""

    def __init__(
        self,
        name: SomeSubstitutionsType,
        *,
        default_value: SomeSubstitutionsType | None = None,
    ) -> None:
        self.name = normalize(name)
        self.default_value = None if default_value is None else normalize(default_value)

    def describe(self) -> str:
        return f"EnvVar({_described(self.name)})"

    def perform(self, context: LaunchContext) -> str:
        name = perform(context, self.name)
        if name in context.environment:
            return context.environment[name]
        if self.default_value is None:
            raise SubstitutionFailure(f"environment variable '{name}' does not exist")
        return perform(context, self.default_value)


class PathJoinSubstitution(Substitution):
    """Path elements joined by the separator; an element may itself be a list to concatenate."""

    def __init__(self, substitutions: Any) -> None:
        self.substitutions = [normalize(s) for s in substitutions]

    def describe(self) -> str:
        return f"PathJoin('{' + '.join(_described(s) for s in self.substitutions)}')"

    def perform(self, context: LaunchContext) -> str:
        return os.path.join(*(perform(context, s) for s in self.substitutions))


class ThisLaunchFileDir(Substitution):
    """The folder of the launch file being read."""

    def describe(self) -> str:
        return "ThisLaunchFileDir()"

    def perform(self, context: LaunchContext) -> str:
        folder = context.get_locals_as_dict().get("current_launch_file_directory")
        if folder is None:
            raise SubstitutionFailure("ThisLaunchFileDir used outside of a launch file")
        return folder


class PythonExpression(Substitution):
    """The text of an evaluated Python expression; names of `math` are in scope."""

    def __init__(
        self, expression: SomeSubstitutionsType, python_modules: SomeSubstitutionsType = ("math",)
    ) -> None:
        self.expression = normalize(expression)
        self.python_modules = normalize(python_modules)

    def describe(self) -> str:
        modules = ", ".join(module.describe() for module in self.python_modules)
        return f"PythonExpr({_described(self.expression)}, [{modules}])"

    def perform(self, context: LaunchContext) -> str:
        names: dict[str, Any] = {}
        for module_name in (part.perform(context) for part in self.python_modules):
            module = importlib.import_module(module_name)
            if module_name == "math":
                names.update(vars(math))
            names[module_name] = module
        return str(eval(perform(context, self.expression), {}, names))


class Command(Substitution):
    """What a command prints; `on_stderr` is fail, ignore, warn or capture."""

    def __init__(
        self, command: SomeSubstitutionsType, *, on_stderr: SomeSubstitutionsType = "fail"
    ) -> None:
        self.command = normalize(command)
        self.on_stderr = normalize(on_stderr)

    def describe(self) -> str:
        return f"Command({_described(self.command)})"

    def perform(self, context: LaunchContext) -> str:
        text = perform(context, self.command)
        on_stderr = perform(context, self.on_stderr)
        if on_stderr not in ("fail", "ignore", "warn", "capture"):
            raise SubstitutionFailure(
                f"Command: on_stderr must be fail, ignore, warn or capture, got '{on_stderr}'"
            )
        stderr = subprocess.STDOUT if on_stderr == "capture" else subprocess.PIPE
        try:
            done = subprocess.run(
                shlex.split(text), stdout=subprocess.PIPE, stderr=stderr, text=True, check=False
            )
        except FileNotFoundError as exc:
            raise SubstitutionFailure(f"file not found: {exc}") from exc
        if done.returncode != 0:
            raise SubstitutionFailure(f"command '{text}' failed: {done.stderr or done.stdout}")
        if done.stderr:
            message = f"command '{text}' wrote to stderr: {done.stderr}"
            if on_stderr == "fail":
                raise SubstitutionFailure(message)
            if on_stderr == "warn":
                launch_logging.get_logger("launch").warning(message)
        return done.stdout


class FindExecutable(Substitution):
    """Path of an executable on PATH."""

    def __init__(self, *, name: SomeSubstitutionsType) -> None:
        self.name = normalize(name)

    def describe(self) -> str:
        return f"FindExec({_described(self.name)})"

    def perform(self, context: LaunchContext) -> str:
        name = perform(context, self.name)
        found = shutil.which(name)
        if found is None:
            raise SubstitutionFailure(f"executable '{name}' not found on the PATH")
        return found


def _as_text(value: Any) -> Any:
    if is_substitution(value):
        return value
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class EqualsSubstitution(Substitution):
    """'true' if both sides are equal as booleans, as numbers, or else as text."""

    def __init__(self, left: Any, right: Any) -> None:
        self.left = normalize(_as_text(left))
        self.right = normalize(_as_text(right))

    def describe(self) -> str:
        return f"{type(self).__name__}({self.left} {self.right})"

    def _equal(self, context: LaunchContext) -> bool:
        left, right = perform(context, self.left), perform(context, self.right)
        booleans = ("true", "false", "1", "0")
        if left.lower() in booleans and right.lower() in booleans:
            return (left.lower() in ("true", "1")) == (right.lower() in ("true", "1"))
        a, b = _as_float(left), _as_float(right)
        if a is not None and b is not None:
            return math.isclose(a, b)
        return left == right

    def perform(self, context: LaunchContext) -> str:
        return str(self._equal(context)).lower()


class NotEqualsSubstitution(EqualsSubstitution):
    """'true' where EqualsSubstitution says 'false'."""

    def perform(self, context: LaunchContext) -> str:
        return str(not self._equal(context)).lower()


def _truth(context: LaunchContext, parts: list[Substitution]) -> bool:
    try:
        return coerce(perform(context, parts), bool)
    except (TypeError, ValueError) as exc:
        raise SubstitutionFailure(exc) from exc


class NotSubstitution(Substitution):
    """Boolean negation."""

    def __init__(self, value: SomeSubstitutionsType) -> None:
        self.value = normalize(value)

    def describe(self) -> str:
        return f"NotSubstitution({self.value})"

    def perform(self, context: LaunchContext) -> str:
        return str(not _truth(context, self.value)).lower()


class AndSubstitution(Substitution):
    """Both of two booleans; both are read, so that a bad one is always reported."""

    def __init__(self, left: SomeSubstitutionsType, right: SomeSubstitutionsType) -> None:
        self.left, self.right = normalize(left), normalize(right)

    def describe(self) -> str:
        return f"AndSubstitution({self.left} {self.right})"

    def perform(self, context: LaunchContext) -> str:
        return str(all([_truth(context, self.left), _truth(context, self.right)])).lower()


class OrSubstitution(AndSubstitution):
    """Either of two booleans."""

    def perform(self, context: LaunchContext) -> str:
        return str(any([_truth(context, self.left), _truth(context, self.right)])).lower()


class IfElseSubstitution(Substitution):
    """One of two values, by a boolean."""

    def __init__(
        self,
        condition: SomeSubstitutionsType,
        if_value: SomeSubstitutionsType = "",
        else_value: SomeSubstitutionsType = "",
    ) -> None:
        if if_value == else_value == "":
            raise RuntimeError("One of if_value and else_value must be specified")
        self.condition = normalize(condition)
        self.if_value, self.else_value = normalize(if_value), normalize(else_value)

    def describe(self) -> str:
        return f"IfElseSubstitution({self.condition}, {self.if_value}, {self.else_value})"

    def perform(self, context: LaunchContext) -> str:
        chosen = self.if_value if _truth(context, self.condition) else self.else_value
        return perform(context, chosen)
