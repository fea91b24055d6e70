"""Actions about ROS nodes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from launch.core import (
    Action,
    LaunchContext,
    SomeSubstitutionsType,
    Substitution,
    SubstitutionFailure,
    normalize,
    perform,
)
from launch.process import ExecuteProcess
from rclpy.validate_namespace import validate_namespace
from rclpy.validate_node_name import validate_node_name

from launch import logging as launch_logging

from .parameter_descriptions import (
    Parameter,
    ParameterFile,
    evaluate_parameters,
    write_temporary,
)
from .substitutions import ExecutableInPackage

__all__ = [
    "Node", "PushROSNamespace", "PushRosNamespace", "SetParameter", "SetParametersFromFile",
    "SetRemap", "SetUseSimTime",
]  # fmt: skip


def join_namespace(base: str | None, namespace: str | None) -> str | None:
    """`namespace` below `base` unless absolute; absolute; None if both are None."""
    if base is None and namespace is None:
        return None
    if namespace is None:
        joined = base or ""
    elif not base or namespace.startswith("/"):
        joined = namespace
    else:
        joined = f"{base.rstrip('/')}/{namespace}"
    if joined != "/":
        joined = joined.rstrip("/")
    return joined if joined.startswith("/") else f"/{joined}"


class _NodeName(Substitution):
    """Stands for the remapping of the node's name until the node is started."""

    def __init__(self, name: SomeSubstitutionsType) -> None:
        self._name = normalize(name)

    def describe(self) -> str:
        return "LocalVar('node name')"

    def perform(self, context: LaunchContext) -> str:
        return f"__node:={perform(context, self._name)}"


class Node(ExecuteProcess):
    """Runs a node: a package's executable with name, namespace, parameters and remappings.

    parameters: a list of paths, ParameterFile, Parameter, and dicts (written to a temporary
    parameter file); later ones win.
    """

    def __init__(
        self,
        *,
        executable: SomeSubstitutionsType,
        package: SomeSubstitutionsType | None = None,
        name: SomeSubstitutionsType | None = None,
        namespace: SomeSubstitutionsType | None = None,
        exec_name: SomeSubstitutionsType | None = None,
        parameters: list | None = None,
        remappings: Iterable[tuple] | None = None,
        ros_arguments: Iterable[SomeSubstitutionsType] | None = None,
        arguments: Iterable[SomeSubstitutionsType] | None = None,
        **kwargs: Any,
    ) -> None:
        program = executable if package is None else ExecutableInPackage(executable, package)
        cmd: list[Any] = [program, *(arguments or ())]
        if ros_arguments is not None:
            cmd += ["--ros-args", *ros_arguments]
        cmd.append("--ros-args")
        if name is not None:
            cmd += ["-r", _NodeName(name)]
        if parameters is not None and not isinstance(parameters, list):
            raise TypeError(f"Node: parameters must be a list, got {parameters!r}")
        super().__init__(cmd=cmd, name=exec_name, **kwargs)
        self._node_name = None if name is None else normalize(name)
        self._namespace = None if namespace is None else normalize(namespace)
        self._parameters = [
            p if isinstance(p, (Mapping, Parameter, ParameterFile)) else ParameterFile(p)
            for p in parameters or ()
        ]
        self._remappings = []
        for rule in remappings or ():
            if not isinstance(rule, tuple) or len(rule) != 2:
                raise TypeError(f"Node: a remapping must be a tuple (from, to), got {rule!r}")
            self._remappings.append((normalize(rule[0]), normalize(rule[1])))

    def execute(self, context: LaunchContext) -> list | None:
        name = namespace = None
        logger = launch_logging.get_logger("launch_ros.actions.node")
        try:
            if self._node_name is not None:
                name = perform(context, self._node_name)
                validate_node_name(name)
            own = None if self._namespace is None else perform(context, self._namespace)
            namespace = join_namespace(context.launch_configurations.get("ros_namespace"), own)
            if namespace is not None:
                validate_namespace(namespace)
        except Exception:
            logger.error(f"Error while expanding or validating node name '{name}' or namespace")
            raise
        extra: list[str] = [] if namespace is None else ["-r", f"__ns:={namespace}"]
        full_name = None
        if name is not None and namespace is not None:
            full_name = f"{namespace.rstrip('/')}/{name}"
        for item in context.launch_configurations.get("global_params", ()):
            if isinstance(item, tuple):
                extra += ["-p", f"{item[0]}:={item[1]}"]
                continue
            path = os.path.abspath(item)
            if not os.path.isfile(path):
                raise FileNotFoundError(f"SetParametersFromFile: no parameter file '{path}'")
            extra += ["--params-file", path]
        for parameter in self._parameters:
            if isinstance(parameter, Parameter):
                key, value = parameter.evaluate(context)
                extra += ["-p", f"{key}:={yaml.dump(value)}"]
                continue
            if isinstance(parameter, ParameterFile):
                path = parameter.evaluate(context)
                if not os.path.isfile(path):
                    logger.warning(f"Parameter file path is not a file: {path}")
                    continue
            else:
                values = evaluate_parameters(context, parameter)
                content = {full_name or "/**": {"ros__parameters": values}}
                path = write_temporary(yaml.dump(content, default_flow_style=False))
            extra += ["--params-file", path]
        rules = list(context.launch_configurations.get("ros_remaps", ()))
        rules += [(perform(context, a), perform(context, b)) for a, b in self._remappings]
        for source, target in rules:
            extra += ["-r", f"{source}:={target}"]
        self.cmd += [normalize(part) for part in extra]
        result = super().execute(context)
        if full_name is not None:
            seen = context.get_locals_as_dict().get("node_names_seen", {})
            seen[full_name] = seen.get(full_name, 0) + 1
            context.extend_globals({"node_names_seen": seen})
            if seen[full_name] > 1:
                launch_logging.get_logger(self.name).warning(
                    f"there are now at least {seen[full_name]} nodes with the name {full_name} "
                    "created within this launch context"
                )
        return result


class PushROSNamespace(Action):
    """Nodes visited from here on, within the scope, are below this namespace."""

    def __init__(self, namespace: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.namespace = normalize(namespace)

    def execute(self, context: LaunchContext) -> None:
        pushed = perform(context, self.namespace)
        before = context.launch_configurations.get("ros_namespace")
        joined = join_namespace(before, pushed)
        assert joined is not None
        try:
            validate_namespace(joined)
        except Exception as exc:
            raise SubstitutionFailure(
                f"The resulting namespace is invalid: [previous_namespace='{before}', "
                f"pushed_namespace='{pushed}']"
            ) from exc
        context.launch_configurations["ros_namespace"] = joined


PushRosNamespace = PushROSNamespace


def _append(context: LaunchContext, name: str, items: Iterable) -> None:
    # In place, as the official actions do it: a list begun outside a group is shared with it.
    context.launch_configurations.setdefault(name, []).extend(items)


class SetParameter(Action):
    """A parameter for all nodes visited from here on, within the scope."""

    def __init__(self, name: SomeSubstitutionsType, value: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._parameters = {tuple(normalize(name)): value}

    def execute(self, context: LaunchContext) -> None:
        _append(context, "global_params", evaluate_parameters(context, self._parameters).items())


class SetUseSimTime(SetParameter):
    """use_sim_time for all nodes visited from here on, within the scope."""

    def __init__(self, value: Any, **kwargs: Any) -> None:
        super().__init__("use_sim_time", value, **kwargs)


class SetParametersFromFile(Action):
    """A parameter file for all nodes visited from here on, within the scope."""

    def __init__(self, filename: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._filename = normalize(filename)

    def execute(self, context: LaunchContext) -> None:
        _append(context, "global_params", [perform(context, self._filename)])


class SetRemap(Action):
    """A remapping for all nodes visited from here on, within the scope."""

    def __init__(
        self, src: SomeSubstitutionsType, dst: SomeSubstitutionsType, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._rule = (normalize(src), normalize(dst))

    def execute(self, context: LaunchContext) -> None:
        source, target = self._rule
        _append(context, "ros_remaps", [(perform(context, source), perform(context, target))])
