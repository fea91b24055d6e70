"""Conditions for actions."""

from __future__ import annotations

from .core import Condition, LaunchContext, SomeSubstitutionsType, normalize, perform

__all__ = [
    "IfCondition", "InvalidConditionExpressionError", "LaunchConfigurationEquals",
    "LaunchConfigurationNotEquals", "UnlessCondition",
]  # fmt: skip


class InvalidConditionExpressionError(Exception):
    """The text of a condition is neither true nor false."""


class IfCondition(Condition):
    """Holds where the text is 'true' or '1'; anything but those and 'false', '0' is an error."""

    def __init__(self, predicate_expression: SomeSubstitutionsType) -> None:
        self._expression = normalize(predicate_expression)
        super().__init__(predicate=self._holds)

    def _holds(self, context: LaunchContext) -> bool:
        text = perform(context, self._expression).strip().lower()
        if text not in ("true", "1", "false", "0"):
            raise InvalidConditionExpressionError(
                f"condition '{' + '.join(p.describe() for p in self._expression)}': "
                f"expected one of true, 1, false, 0, got '{text}'"
            )
        return text in ("true", "1")


class UnlessCondition(IfCondition):
    """The contrary of IfCondition."""

    def _holds(self, context: LaunchContext) -> bool:
        return not super()._holds(context)


class LaunchConfigurationEquals(Condition):
    """Holds where a configuration has the value (None: where it is not set)."""

    def __init__(self, name: str, expected_value: SomeSubstitutionsType | None) -> None:
        self._name = name
        self._expected = None if expected_value is None else normalize(expected_value)
        super().__init__(predicate=self._holds)

    def _holds(self, context: LaunchContext) -> bool:
        expected = None if self._expected is None else perform(context, self._expected)
        return context.launch_configurations.get(self._name) == expected


class LaunchConfigurationNotEquals(LaunchConfigurationEquals):
    """The contrary of LaunchConfigurationEquals."""

    def _holds(self, context: LaunchContext) -> bool:
        return not super()._holds(context)
