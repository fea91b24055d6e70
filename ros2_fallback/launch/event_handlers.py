"""Handlers for the events that launch files commonly react to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .core import BaseEventHandler, Event, LaunchContext, LaunchDescriptionEntity
from .events import Shutdown
from .events.process import ProcessExited, ProcessStarted

__all__ = ["OnProcessExit", "OnProcessStart", "OnShutdown"]


def _entities(value: Any, what: str) -> list:
    items = [value] if isinstance(value, LaunchDescriptionEntity) else value
    if not isinstance(items, Iterable) or isinstance(items, str):
        raise TypeError(f"{what}: expected actions or a callable, got {value!r}")
    items = list(items)
    for item in items:
        if not isinstance(item, LaunchDescriptionEntity):
            raise TypeError(f"{what}: expected actions or a callable, got {item!r}")
    return items


class _OnProcessEvent(BaseEventHandler):
    """A process event, of one action or of those a callable accepts."""

    def __init__(
        self, event_class: type[Event], target_action: Any, reaction: Any, what: str, **kwargs: Any
    ) -> None:
        from .process import ExecuteProcess

        if not (
            target_action is None
            or isinstance(target_action, ExecuteProcess)
            or callable(target_action)
        ):
            raise TypeError(f"{what}: target_action must be a process action or a callable")

        def matches(event: Event) -> bool:
            if not isinstance(event, event_class):
                return False
            if target_action is None or target_action is event.action:
                return True
            return callable(target_action) and target_action(event.action)

        super().__init__(matcher=matches, **kwargs)
        self._reaction = reaction if callable(reaction) else _entities(reaction, what)

    def described_entities(self) -> list:
        return [] if callable(self._reaction) else self._reaction

    def handle(self, event: Event, context: LaunchContext) -> Any:
        super().handle(event, context)
        return self._reaction(event, context) if callable(self._reaction) else self._reaction


class OnProcessStart(_OnProcessEvent):
    """A process has started."""

    def __init__(self, *, target_action: Any = None, on_start: Any, **kwargs: Any) -> None:
        super().__init__(ProcessStarted, target_action, on_start, "OnProcessStart", **kwargs)


class OnProcessExit(_OnProcessEvent):
    """A process has ended."""

    def __init__(self, *, target_action: Any = None, on_exit: Any, **kwargs: Any) -> None:
        super().__init__(ProcessExited, target_action, on_exit, "OnProcessExit", **kwargs)


class OnShutdown(BaseEventHandler):
    """The launch is ending."""

    def __init__(self, *, on_shutdown: Any, matcher: Callable | None = None, **kwargs: Any) -> None:
        super().__init__(matcher=lambda event: isinstance(event, Shutdown), **kwargs)
        self._reaction = (
            on_shutdown if callable(on_shutdown) else _entities(on_shutdown, "OnShutdown")
        )

    def described_entities(self) -> list:
        return [] if callable(self._reaction) else self._reaction

    def handle(self, event: Event, context: LaunchContext) -> Any:
        super().handle(event, context)
        return self._reaction(event, context) if callable(self._reaction) else self._reaction
