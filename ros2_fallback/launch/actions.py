"""Actions of launch files, except the process itself (`process.py`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import logging as launch_logging
from .core import (
    Action,
    BaseEventHandler,
    Event,
    EventHandler,
    LaunchContext,
    LaunchDescriptionEntity,
    SomeSubstitutionsType,
    Substitution,
    normalize,
    normalize_typed,
    perform,
    perform_typed,
)
from .events import Shutdown as ShutdownEvent
from .events import TimerEvent
from .events.process import ProcessExited
from .launch_description_sources import PythonLaunchDescriptionSource
from .process import ExecuteProcess

__all__ = [
    "DeclareLaunchArgument", "EmitEvent", "ExecuteProcess", "GroupAction",
    "IncludeLaunchDescription", "LogInfo", "OpaqueFunction", "RegisterEventHandler",
    "SetEnvironmentVariable", "SetLaunchConfiguration", "Shutdown", "TimerAction",
    "UnregisterEventHandler", "UnsetEnvironmentVariable",
]  # fmt: skip


class DeclareLaunchArgument(Action):
    """An argument of the launch file; checked against `choices` when visited."""

    def __init__(
        self,
        name: str,
        *,
        default_value: SomeSubstitutionsType | None = None,
        description: str | None = None,
        choices: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.choices = None if choices is None else list(choices)
        self.default_value = None if default_value is None else normalize(default_value)
        self._conditionally_included = False
        if self.choices is not None:
            if not self.choices:
                raise RuntimeError(f"launch argument '{name}': choices must not be empty")
            fixed = default_value is not None and not isinstance(
                default_value, (Substitution, list)
            )
            if fixed and default_value not in self.choices:
                raise RuntimeError(
                    f'Provided default_value "{default_value}" is not in provided choices '
                    f'"{self.choices}".'
                )
        if description is None:
            self.description = (
                "no description given" if self.choices is None else f"One of: {self.choices}"
            )
        else:
            self.description = description
            if self.choices is not None:
                stop = "" if description.endswith(".") else "."
                self.description += f"{stop} Valid choices are: {self.choices}"

    def execute(self, context: LaunchContext) -> None:
        values = context.launch_configurations
        logger = launch_logging.get_logger("launch.actions.declare_launch_argument")
        if self.name not in values:
            if self.default_value is None:
                logger.error(
                    f'Required launch argument "{self.name}" (description: '
                    f'"{self.description}") was not provided'
                )
                raise RuntimeError(f'Required launch argument "{self.name}" was not provided.')
            values[self.name] = perform(context, self.default_value)
        if self.choices is not None and values[self.name] not in self.choices:
            message = (
                f'Argument "{self.name}" provided value "{values[self.name]}" is not valid. '
                f"Valid options are: {self.choices}"
            )
            logger.error(message)
            raise RuntimeError(message)


class SetLaunchConfiguration(Action):
    """Sets a launch configuration from here on, within the scope."""

    def __init__(
        self, name: SomeSubstitutionsType, value: SomeSubstitutionsType, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.name, self.value = normalize(name), normalize(value)

    def execute(self, context: LaunchContext) -> None:
        name = perform(context, self.name)
        context.launch_configurations[name] = perform(context, self.value)


class SetEnvironmentVariable(Action):
    """Sets an environment variable from here on, within the scope."""

    def __init__(
        self, name: SomeSubstitutionsType, value: SomeSubstitutionsType, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.name, self.value = normalize(name), normalize(value)

    def execute(self, context: LaunchContext) -> None:
        context.environment[perform(context, self.name)] = perform(context, self.value)


class UnsetEnvironmentVariable(Action):
    """Removes an environment variable, if it is there."""

    def __init__(self, name: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = normalize(name)

    def execute(self, context: LaunchContext) -> None:
        context.environment.pop(perform(context, self.name), None)


class LogInfo(Action):
    """A line of information from the launch system."""

    def __init__(self, *, msg: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.msg = normalize(msg)

    def execute(self, context: LaunchContext) -> None:
        launch_logging.get_logger("launch.user").info(perform(context, self.msg))


class OpaqueFunction(Action):
    """Calls function(context, *args, **kwargs), which may return entities to visit."""

    def __init__(
        self,
        *,
        function: Callable,
        args: Iterable | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **left: Any,
    ) -> None:
        super().__init__(**left)
        if not callable(function):
            raise TypeError(f"OpaqueFunction: function must be callable, got {function!r}")
        self._function, self._args, self._kwargs = function, tuple(args or ()), dict(kwargs or {})

    def execute(self, context: LaunchContext) -> list | None:
        return self._function(context, *self._args, **self._kwargs)


class ScopePush(Action):
    """Begins a group's scope."""

    def execute(self, context: LaunchContext) -> None:
        context.push_scope()


class ScopePop(Action):
    """Ends a group's scope."""

    def execute(self, context: LaunchContext) -> None:
        context.pop_scope()


class ScopeReset(Action):
    """Forgets configurations and environment of outside, but for `keep`."""

    def __init__(self, keep: Mapping) -> None:
        super().__init__()
        self._keep = [(normalize(k), normalize(v)) for k, v in keep.items()]

    def execute(self, context: LaunchContext) -> None:
        context.reset_environment()
        kept = {perform(context, k): perform(context, v) for k, v in self._keep}
        context.launch_configurations.clear()
        context.launch_configurations.update(kept)


class GroupAction(Action):
    """Actions together: with a condition, a scope, or both."""

    def __init__(
        self,
        actions: Iterable[LaunchDescriptionEntity],
        *,
        scoped: bool = True,
        forwarding: bool = True,
        launch_configurations: Mapping | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        kept = launch_configurations or {}
        inner = [SetLaunchConfiguration(k, v) for k, v in kept.items()] + list(actions)
        if not scoped:
            self._entities = inner
        elif forwarding:
            self._entities = [ScopePush(), *inner, ScopePop()]
        else:
            self._entities = [ScopePush(), ScopeReset(kept), *inner[len(kept) :], ScopePop()]

    def get_sub_entities(self) -> list:
        return self._entities

    def execute(self, context: LaunchContext) -> list:
        return self._entities


class IncludeLaunchDescription(Action):
    """Another launch file, with arguments; they stay set after it, unless within a group."""

    def __init__(
        self,
        launch_description_source: PythonLaunchDescriptionSource | SomeSubstitutionsType,
        *,
        launch_arguments: Iterable[tuple] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(launch_description_source, PythonLaunchDescriptionSource):
            launch_description_source = PythonLaunchDescriptionSource(launch_description_source)
        self.launch_description_source = launch_description_source
        self.launch_arguments = tuple(launch_arguments or ())

    def get_sub_entities(self) -> list:
        found = self.launch_description_source.try_get_launch_description_without_context()
        return [] if found is None else [found]

    def argument_names(self, context: LaunchContext) -> list[str]:
        return [perform(context, normalize(name)) for name, _ in self.launch_arguments]

    def execute(self, context: LaunchContext) -> list:
        description = self.launch_description_source.get_launch_description(context)
        path = os.path.abspath(self.launch_description_source.location)
        context.extend_locals(
            {
                "current_launch_file_path": path,
                "current_launch_file_directory": os.path.dirname(path),
            }
        )
        given = self.argument_names(context)
        for argument, includes in description.arguments_with_includes():
            if argument._conditionally_included or argument.default_value is not None:
                continue
            passed = [n for i in includes or () for n in i.argument_names(LaunchContext())]
            if argument.name not in given + passed:
                raise RuntimeError(
                    f"Included launch description missing required argument '{argument.name}' "
                    f"(description: '{argument.description}'), given: [{', '.join(given)}]"
                )
        return [*(SetLaunchConfiguration(k, v) for k, v in self.launch_arguments), description]


class RegisterEventHandler(Action):
    """Makes an event handler active."""

    def __init__(self, event_handler: BaseEventHandler, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.event_handler = event_handler

    def describe_conditional_sub_entities(self) -> list:
        entities = self.event_handler.described_entities()
        return [(repr(self.event_handler), entities)] if entities else []

    def execute(self, context: LaunchContext) -> None:
        context.register_event_handler(self.event_handler)


class UnregisterEventHandler(Action):
    """Makes an event handler inactive."""

    def __init__(self, event_handler: BaseEventHandler, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.event_handler = event_handler

    def execute(self, context: LaunchContext) -> None:
        context.unregister_event_handler(self.event_handler)


class EmitEvent(Action):
    """Emits an event."""

    def __init__(self, *, event: Event, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(event, Event):
            raise RuntimeError(f"EmitEvent: expected an event, got {event!r}")
        self.event = event

    def execute(self, context: LaunchContext) -> None:
        context.emit_event_sync(self.event)


class Shutdown(EmitEvent):
    """Ends the launch; says which process was required, if in answer to a process's end."""

    def __init__(self, *, reason: str = "reason not given", **kwargs: Any) -> None:
        super().__init__(event=ShutdownEvent(reason=reason), **kwargs)

    def execute(self, context: LaunchContext) -> None:
        event = context.get_locals_as_dict().get("event")
        if isinstance(event, ProcessExited):
            launch_logging.get_logger("launch.actions.shutdown_action").info(
                f"process[{event.process_name}] was required: shutting down launched system"
            )
        super().execute(context)


class TimerAction(Action):
    """Yields its actions once, `period` seconds after being visited."""

    def __init__(
        self,
        *,
        period: float | SomeSubstitutionsType,
        actions: Iterable[LaunchDescriptionEntity],
        cancel_on_shutdown: bool | SomeSubstitutionsType = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(period, int):
            raise TypeError(f"TimerAction: period must be a float in seconds, got {period!r}")
        period = float(period) if isinstance(period, str) else period
        self.period = normalize_typed(period, float)
        self.actions = list(actions)
        self._cancel_on_shutdown = normalize_typed(cancel_on_shutdown, bool)
        self._canceled = asyncio.Event()
        self._done: asyncio.Future | None = None
        self._locals: dict[str, Any] = {}

    def describe(self) -> str:
        return f"TimerAction(period={self.period}, actions=<actions>)"

    def describe_conditional_sub_entities(self) -> list:
        return [(f"{self.period} seconds pass without being canceled", self.actions)]

    def cancel(self) -> None:
        self._canceled.set()

    def get_asyncio_future(self) -> asyncio.Future | None:
        return self._done

    def execute(self, context: LaunchContext) -> None:
        assert context.asyncio_loop is not None
        self._done = context.asyncio_loop.create_future()
        self._locals = context.get_locals_as_dict()
        seconds = perform_typed(context, self.period, float)
        context.register_event_handler(
            EventHandler(
                matcher=lambda e: isinstance(e, TimerEvent) and e.timer_action is self,
                entities=[OpaqueFunction(function=self._fire)],
                handle_once=True,
            )
        )
        if perform_typed(context, self._cancel_on_shutdown, bool):
            context.register_event_handler(
                EventHandler(
                    matcher=lambda e: isinstance(e, ShutdownEvent),
                    entities=[OpaqueFunction(function=lambda _context: self.cancel())],
                )
            )
        self._task = context.asyncio_loop.create_task(self._wait(context, seconds))

    async def _wait(self, context: LaunchContext, seconds: float) -> None:
        assert self._done is not None
        try:
            await asyncio.wait_for(self._canceled.wait(), seconds)
        except TimeoutError:
            context.emit_event_sync(TimerEvent(self))
        self._done.set_result(None)

    def _fire(self, context: LaunchContext) -> list:
        context.extend_locals(self._locals)
        return self.actions
