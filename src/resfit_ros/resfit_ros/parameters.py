"""Parameters declared with description, range and choices, and refused with one clear error."""

from collections.abc import Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node


class ConfigurationError(ValueError):
    """A parameter or a configuration file is wrong; the text names it, the expected, the found."""


def declare(
    node: Node,
    name: str,
    default: Any,
    description: str,
    *,
    range: tuple[float, float] | None = None,
    choices: Sequence[str] = (),
    read_only: bool = True,
) -> Any:
    """Declare a parameter and return its value.

    `default` may be a type: then the parameter has no default and must be given.
    Raises ConfigurationError naming the parameter, what was expected and what was found.
    """
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if choices:
        descriptor.additional_constraints = "one of: " + ", ".join(choices)
    kind = default if isinstance(default, type) else type(default)
    if range is not None and kind is int:
        descriptor.integer_range = [IntegerRange(from_value=int(range[0]), to_value=int(range[1]))]
    elif range is not None and kind is float:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(range[0]), to_value=float(range[1]))
        ]
    try:
        value = node.declare_parameter(
            name, _type_of(kind) if default is kind else default, descriptor
        ).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        expected = f"{kind.__name__}" + (f" in {list(range)}" if range else "")
        raise ConfigurationError(f"parameter '{name}': expected {expected}; {error}") from None
    if value is None:
        raise ConfigurationError(f"parameter '{name}': expected {kind.__name__}, found none")
    if choices and value not in choices:
        raise ConfigurationError(
            f"parameter '{name}': expected one of {', '.join(choices)}, found {value!r}"
        )
    return list(value) if kind is list or hasattr(value, "typecode") else value


def _type_of(kind: type) -> Any:
    from rclpy.parameter import Parameter

    return {
        str: Parameter.Type.STRING,
        int: Parameter.Type.INTEGER,
        float: Parameter.Type.DOUBLE,
        bool: Parameter.Type.BOOL,
    }[kind]
