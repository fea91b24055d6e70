"""Wakes a driver up when something becomes due without a message."""

import time
from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from resfit_driver.stepping import Stepping
from resfit_ros.conversions import NANOSECONDS

# s; lets the executor serve what came meanwhile, even where a step is longer than a period.
SHORTEST_WAIT = 1e-4


class WakeTimer:
    """Calls `advance` at the time that `stepping` names.

    Args:
        asleep: whether nothing can become due, whatever `stepping` says.
    """

    def __init__(
        self,
        node: Node,
        stepping: Stepping,
        advance: Callable[[], None],
        asleep: Callable[[], bool],
    ) -> None:
        self._stepping = stepping
        self._advance = advance
        self._asleep = asleep
        self._looked_again = False
        self._timer = node.create_timer(
            3600.0, self._on_wake, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def observed(self) -> None:
        """A new observation is out, whose command may come at the last moment."""
        self._looked_again = False

    def schedule(self) -> None:
        """To be called after everything that may change what is due."""
        wake = self._stepping.wake()
        if wake is None or self._asleep():
            self._timer.cancel()
            return
        self._timer.timer_period_ns = max(
            wake - time.monotonic_ns(), round(SHORTEST_WAIT * NANOSECONDS)
        )
        self._timer.reset()

    def _on_wake(self) -> None:
        if self._stepping.awaits_command and not self._looked_again:
            # The executor serves timers first: let it take a command that came in time.
            self._looked_again = True
            self.schedule()
        else:
            self._advance()
