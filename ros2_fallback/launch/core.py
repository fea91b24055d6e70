"""Entities, context and substitution plumbing shared by every part of the launch subset."""

from __future__ import annotations

import asyncio
import collections
import os
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, Union

import yaml

SCALARS = (int, float, bool, str)


class SubstitutionFailure(RuntimeError):
    """A substitution could not be turned into text."""


class Substitution:
    """Something that becomes text once a launch context is known."""

    def perform(self, context: LaunchContext) -> str:
        raise NotImplementedError

    def describe(self) -> str:
        return repr(self)


SomeSubstitutionsType = str | Substitution | Iterable[str | Substitution]
SomeEntitiesType = Union["LaunchDescriptionEntity", Iterable["LaunchDescriptionEntity"]]


class TextSubstitution(Substitution):
    """Fixed text."""

    def __init__(self, *, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"TextSubstitution: text must be a str, got {text!r}")
        self.text = text

    def describe(self) -> str:
        return f"'{self.text}'"

    def perform(self, context: LaunchContext) -> str:
        return self.text


def normalize(value: Any) -> list[Substitution]:
    """Text, a path, a substitution or an iterable of them, as a list of substitutions."""
    if isinstance(value, (str, os.PathLike)):
        return [TextSubstitution(text=os.fspath(value))]
    if isinstance(value, Substitution):
        return [value]
    if isinstance(value, Iterable):
        out: list[Substitution] = []
        for item in value:
            if isinstance(item, (str, os.PathLike)):
                out.append(TextSubstitution(text=os.fspath(item)))
            elif isinstance(item, Substitution):
                out.append(item)
            else:
                raise TypeError(f"expected text or a substitution, got {item!r} in {value!r}")
        return out
    raise TypeError(f"expected text, a substitution or a list of them, got {value!r}")


def perform(context: LaunchContext, parts: Iterable[Substitution]) -> str:
    """Join what the substitutions of `parts` give in `context`."""
    return "".join(part.perform(context) for part in parts)


def is_substitution(value: Any) -> bool:
    """True for a substitution, or a list of text and at least one substitution."""
    if isinstance(value, Substitution):
        return True
    return (
        isinstance(value, (list, tuple))
        and all(isinstance(v, (str, Substitution)) for v in value)
        and any(isinstance(v, Substitution) for v in value)
    )


def split_type(data_type: Any) -> tuple[Any, bool]:
    """(scalar type, is it a list) of `int`, `List[int]`, `list[int]` and the like."""
    is_list = getattr(data_type, "__origin__", None) is list
    scalar = data_type.__args__[0] if is_list else data_type
    if scalar not in SCALARS:
        raise ValueError(f"Unrecognized data type: {data_type}")
    return scalar, is_list


def _is_uniform(value: Any) -> bool:
    if not isinstance(value, list):
        return isinstance(value, SCALARS)
    return all(isinstance(v, SCALARS) and type(v) is type(value[0]) for v in value)


def coerce(text: str, data_type: Any = None) -> Any:
    """Read `text` as `data_type` (None: by YAML rules); ValueError where it does not fit."""

    def by_yaml(source: str) -> Any:
        try:
            value = yaml.safe_load(source)
        except yaml.YAMLError as exc:
            raise ValueError(f"cannot convert '{source}': not valid YAML: {exc}") from exc
        if not _is_uniform(value):
            raise ValueError(f"cannot convert '{source}': got {type(value)}, expected {data_type}")
        return value

    if data_type is None:
        return by_yaml(text)
    scalar, is_list = split_type(data_type)
    if is_list:
        value = by_yaml(text)
        if not isinstance(value, list) or not all(isinstance(v, scalar) for v in value):
            raise ValueError(f"Cannot convert value '{text}' to a list of '{scalar}'")
        return value
    if scalar in (str, int, float):
        return scalar(text)
    value = by_yaml({"1": "true", "0": "false"}.get(text, text))
    if not isinstance(value, bool):
        raise ValueError(f"Cannot convert value '{text}' to '{bool}'")
    return value


def normalize_typed(value: Any, data_type: Any) -> Any:
    """Keep scalars, turn substitutions into lists of them, check lists; TypeError if unfit."""
    if isinstance(value, SCALARS):
        if data_type is not None:
            scalar, is_list = split_type(data_type)
            if is_list or not isinstance(value, scalar):
                raise TypeError(f"value='{value}' is not an instance of {data_type}")
        return value
    if is_substitution(value):
        return normalize(value)
    if not isinstance(value, Iterable):
        raise TypeError(f"expected a scalar, a substitution or a list of them, got {value!r}")
    items = [normalize(v) if is_substitution(v) else v for v in value]
    plain = {type(v) for v in items if not isinstance(v, list)}
    scalar = None
    if data_type is not None:
        scalar, is_list = split_type(data_type)
        if not is_list:
            raise TypeError(f"value {value!r} is a list, expected {data_type}")
    if plain == {int, float} or (scalar is float and plain <= {int, float}):
        items = [v if isinstance(v, list) else float(v) for v in items]
        plain = {float} if plain else plain
    if len(plain) > 1 or not plain <= set(SCALARS) or (scalar and plain - {scalar}):
        raise TypeError(f"list {value!r} is not of one type, or not of {data_type}")
    return items


def perform_typed(context: LaunchContext, value: Any, data_type: Any) -> Any:
    """The value of something that passed `normalize_typed`."""
    if isinstance(value, SCALARS):
        return value
    if value and all(isinstance(v, Substitution) for v in value):
        return coerce(perform(context, value), data_type)
    scalar = None if data_type is None else split_type(data_type)[0]
    out = [coerce(perform(context, v), scalar) if isinstance(v, list) else v for v in value]
    if not _is_uniform(out):
        raise ValueError(f"the list {out!r} is not of one type")
    return out


class Event:
    """Something that happened; handlers registered in the context may act on it."""

    name = "launch.Event"


class BaseEventHandler:
    """Acts on the events that `matcher` accepts."""

    def __init__(self, *, matcher: Callable[[Event], bool], handle_once: bool = False) -> None:
        self._matcher = matcher
        self.handle_once = handle_once

    def matches(self, event: Event) -> bool:
        return self._matcher(event)

    def handle(self, event: Event, context: LaunchContext) -> Any:
        context.extend_locals({"event": event})
        if self.handle_once:
            context.unregister_event_handler(self)
        return None

    def described_entities(self) -> list:
        """Entities known before any event, for printing."""
        return []


class EventHandler(BaseEventHandler):
    """Yields fixed entities for each matching event."""

    def __init__(
        self,
        *,
        matcher: Callable[[Event], bool],
        entities: SomeEntitiesType | None = None,
        handle_once: bool = False,
    ) -> None:
        super().__init__(matcher=matcher, handle_once=handle_once)
        self.entities = entities

    def handle(self, event: Event, context: LaunchContext) -> Any:
        super().handle(event, context)
        return self.entities


class LaunchContext:
    """What a running launch knows: configurations, environment, locals, handlers, events."""

    def __init__(self, *, argv: Iterable[str] = (), noninteractive: bool = False) -> None:
        self.argv = list(argv)
        self.noninteractive = noninteractive
        self.launch_configurations: dict[str, Any] = {}
        self.is_shutdown = False
        self.asyncio_loop: asyncio.AbstractEventLoop | None = None
        self.event_queue: asyncio.Queue[Event] = asyncio.Queue()
        self.event_handlers: collections.deque[BaseEventHandler] = collections.deque()
        self._globals: dict[str, Any] = {}
        self._locals: dict[str, Any] = {}
        self._locals_stack: list[dict[str, Any]] = []
        self._configurations_stack: list[dict[str, Any]] = []
        self._environment_stack: list[dict[str, str]] = []
        self._first_environment = dict(os.environ)

    @property
    def environment(self) -> Any:
        """The process environment: children inherit it."""
        return os.environ

    @property
    def locals(self) -> SimpleNamespace:
        return SimpleNamespace(**self.get_locals_as_dict())

    def get_locals_as_dict(self) -> dict[str, Any]:
        return {**self._globals, **self._locals}

    def extend_globals(self, values: dict[str, Any]) -> None:
        self._globals.update(values)

    def extend_locals(self, values: dict[str, Any]) -> None:
        self._locals.update(values)

    def push_locals(self) -> None:
        self._locals_stack.append(dict(self._locals))

    def pop_locals(self) -> None:
        self._locals = self._locals_stack.pop()

    def push_scope(self) -> None:
        """Start a scope: configurations and environment changed from here can be undone."""
        self._configurations_stack.append(self.launch_configurations.copy())
        self._environment_stack.append(dict(os.environ))

    def pop_scope(self) -> None:
        self._set_environment(self._environment_stack.pop())
        self.launch_configurations = self._configurations_stack.pop()

    def reset_environment(self) -> None:
        self._set_environment(self._first_environment)

    @staticmethod
    def _set_environment(values: dict[str, str]) -> None:
        os.environ.clear()
        os.environ.update(values)

    def register_event_handler(self, handler: BaseEventHandler, append: bool = False) -> None:
        """Newest handlers run first unless `append`."""
        (self.event_handlers.append if append else self.event_handlers.appendleft)(handler)

    def unregister_event_handler(self, handler: BaseEventHandler) -> None:
        self.event_handlers.remove(handler)

    def emit_event_sync(self, event: Event) -> None:
        self.event_queue.put_nowait(event)

    async def emit_event(self, event: Event) -> None:
        await self.event_queue.put(event)

    def perform_substitution(self, substitution: Substitution) -> str:
        return substitution.perform(self)


class Condition:
    """A predicate on the launch context."""

    def __init__(self, *, predicate: Callable[[LaunchContext], bool]) -> None:
        self._predicate = predicate

    def evaluate(self, context: LaunchContext) -> bool:
        return self._predicate(context)


class LaunchDescriptionEntity:
    """Anything a launch description may hold."""

    def visit(self, context: LaunchContext) -> list | None:
        return None

    def get_asyncio_future(self) -> asyncio.Future | None:
        return None

    def describe_sub_entities(self) -> list:
        return []

    def describe_conditional_sub_entities(self) -> list:
        """[(text, entities)] of what is reached only if something happens."""
        return []


class Action(LaunchDescriptionEntity):
    """An entity that does something, if its condition holds."""

    def __init__(self, *, condition: Condition | None = None) -> None:
        self.condition = condition

    def describe(self) -> str:
        return repr(self)

    def get_sub_entities(self) -> list:
        return []

    def describe_sub_entities(self) -> list:
        return self.get_sub_entities() if self.condition is None else []

    def describe_conditional_sub_entities(self) -> list:
        if self.condition is None:
            return []
        return [(f"Conditionally included by {self.describe()}", self.get_sub_entities())]

    def visit(self, context: LaunchContext) -> list | None:
        if self.condition is None or self.condition.evaluate(context):
            return self.execute(context)
        return None

    def execute(self, context: LaunchContext) -> list | None:
        return None


def visit_all(entity: LaunchDescriptionEntity, context: LaunchContext) -> Iterator[asyncio.Future]:
    """Visit an entity and all that it yields, depth first; yields the futures to wait for.

    They come one by one, so that those before an entity that fails are not lost.
    """
    children = entity.visit(context)
    future = entity.get_asyncio_future()
    if future is not None:
        yield future
    for child in children or ():
        yield from visit_all(child, context)


class LaunchDescription(LaunchDescriptionEntity):
    """A list of entities, visited in order."""

    def __init__(self, initial_entities: Iterable[LaunchDescriptionEntity] | None = None) -> None:
        self.entities = list(initial_entities or [])

    def add_entity(self, entity: LaunchDescriptionEntity) -> None:
        self.entities.append(entity)

    def add_action(self, action: Action) -> None:
        self.add_entity(action)

    def visit(self, context: LaunchContext) -> list:
        return self.entities

    def describe_sub_entities(self) -> list:
        return self.entities

    def get_launch_arguments(self) -> list:
        """Declared arguments, first declaration of a name wins, through loadable includes."""
        return [argument for argument, _ in self.arguments_with_includes()]

    def arguments_with_includes(self) -> list[tuple]:
        """[(DeclareLaunchArgument, the includes passed on the way to it or None)]."""
        from .actions import DeclareLaunchArgument, IncludeLaunchDescription, ScopeReset

        found: list[tuple] = []

        def walk(entities: Iterable, conditional: bool, includes: list | None) -> None:
            for entity in entities:
                if isinstance(entity, DeclareLaunchArgument):
                    if any(entity.name == known.name for known, _ in found):
                        continue
                    entity._conditionally_included = conditional or entity.condition is not None
                    found.append((entity, includes))
                if isinstance(entity, ScopeReset):
                    return  # what follows cannot be set from outside
                inner = includes
                if isinstance(entity, IncludeLaunchDescription):
                    inner = [] if inner is None else inner
                    inner.append(entity)
                walk(entity.describe_sub_entities(), False, inner)
                for _, subs in entity.describe_conditional_sub_entities():
                    walk(subs, True, inner)

        walk(self.entities, False, None)
        return found
