"""The subset of ROS 2's `launch` that this project's launch files use.

Only for machines without ROS 2 installed; see README.md one folder up.
"""

from . import (
    actions,
    conditions,
    event_handlers,
    events,
    launch_description_sources,
    logging,
    substitutions,
)
from .core import (
    Action,
    Condition,
    Event,
    EventHandler,
    LaunchContext,
    LaunchDescription,
    LaunchDescriptionEntity,
    SomeSubstitutionsType,
    Substitution,
)
from .introspection import LaunchIntrospector
from .launch_description_sources import LaunchDescriptionSource
from .launch_service import LaunchService

__all__ = [
    "Action", "Condition", "Event", "EventHandler", "LaunchContext", "LaunchDescription",
    "LaunchDescriptionEntity", "LaunchDescriptionSource", "LaunchIntrospector", "LaunchService",
    "SomeSubstitutionsType", "Substitution", "actions", "conditions", "event_handlers", "events",
    "launch_description_sources", "logging", "substitutions",
]  # fmt: skip
