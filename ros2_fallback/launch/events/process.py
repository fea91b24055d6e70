"""Events about child processes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from ..core import Event

Matcher = Callable[[Any], bool]


class RunningProcessEvent(Event):
    """About one running process."""

    def __init__(
        self,
        *,
        action: Any,
        name: str,
        cmd: list[str],
        cwd: str | None,
        env: dict[str, str] | None,
        pid: int,
    ) -> None:
        self.action = action
        self.process_name = name
        self.cmd = cmd
        self.cwd = cwd
        self.env = env
        self.pid = pid


class ProcessStarted(RunningProcessEvent):
    """The process has started."""

    name = "launch.events.process.ProcessStarted"


class ProcessExited(RunningProcessEvent):
    """The process has ended; a negative `returncode` is minus the signal."""

    name = "launch.events.process.ProcessExited"

    def __init__(self, *, returncode: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.returncode = returncode


class ProcessTargetedEvent(Event):
    """For the processes whose actions `process_matcher` accepts."""

    def __init__(self, *, process_matcher: Matcher) -> None:
        self.process_matcher = process_matcher


class ShutdownProcess(ProcessTargetedEvent):
    """Ask a process to end, by SIGINT, then SIGTERM, then SIGKILL."""

    name = "launch.events.process.ShutdownProcess"


class SignalProcess(ProcessTargetedEvent):
    """Send a signal to a process."""

    name = "launch.events.process.SignalProcess"

    def __init__(self, *, signal_number: str | signal.Signals, process_matcher: Matcher) -> None:
        super().__init__(process_matcher=process_matcher)
        self.signal = (
            signal.Signals[signal_number]
            if isinstance(signal_number, str)
            else signal.Signals(signal_number)
        )

    @property
    def signal_name(self) -> str:
        return self.signal.name


def matches_pid(pid: int) -> Matcher:
    """Accepts the action whose process has this id."""
    return lambda action: (action.process_details or {}).get("pid") == pid


def matches_name(name: str) -> Matcher:
    """Accepts the action whose process has this name ('executable-N')."""
    return lambda action: (action.process_details or {}).get("name") == name
