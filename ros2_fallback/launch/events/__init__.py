"""Events of the launch system."""

from ..core import Event, LaunchDescription
from . import process

__all__ = ["IncludeLaunchDescription", "Shutdown", "TimerEvent", "process"]


class Shutdown(Event):
    """The launch is ending; `due_to_sigint` where Ctrl-C on this process was the cause."""

    name = "launch.events.Shutdown"

    def __init__(
        self, *, reason: str = "reason not given", due_to_sigint: bool = False, **_: object
    ) -> None:
        self.reason = reason
        self.due_to_sigint = due_to_sigint


class IncludeLaunchDescription(Event):
    """A description to visit."""

    name = "launch.events.IncludeLaunchDescription"

    def __init__(self, launch_description: LaunchDescription) -> None:
        self.launch_description = launch_description


class TimerEvent(Event):
    """A TimerAction's time is over."""

    name = "launch.events.TimerEvent"

    def __init__(self, timer_action: object) -> None:
        self.timer_action = timer_action
