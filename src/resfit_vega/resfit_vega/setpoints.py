"""Setpoints between the commands of two control periods, for motors that follow single ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_Positions = NDArray[np.float64]


class Setpoints:
    """Sends setpoints on the straight way to the newest target, which it reaches in one period.

    A thread of its own keeps the pace while the node's works; it sends nothing while it is at its
    target. When this process dies, what was sent last is at most one period's way from the target.

    Args:
        send: called with (A,); what it raises ends the sending until the next `start`.
        period: s, of control.
        frequency: Hz, of setpoints.
    """

    def __init__(self, send: Callable[[_Positions], None], period: float, frequency: float) -> None:
        self._send, self._period, self._pause = send, period, 1 / frequency
        self._changed = threading.Condition()
        self._sent: _Positions | None = None  # None: nothing may be sent
        self._start: _Positions | None = None
        self._target: _Positions | None = None  # None: it is reached
        self._begun = 0.0
        self._failure = ""
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="setpoints", daemon=True)
        self._thread.start()

    def take_failure(self) -> str:
        """Why the sending ended since this was last asked; empty for no reason."""
        with self._changed:
            failure, self._failure = self._failure, ""
            return failure

    def start(self, positions: _Positions) -> None:
        """The robot is at these positions (A,): the next way starts there."""
        with self._changed:
            self._sent, self._target = positions.copy(), None

    def go(self, target: _Positions) -> None:
        """Be at (A,) a period from now; nothing happens when stopped."""
        with self._changed:
            if self._sent is not None:
                self._start, self._target = self._sent, target.copy()
                self._begun = time.monotonic()
                self._changed.notify()

    def stop(self) -> None:
        """Send nothing more until the next `start`."""
        with self._changed:
            self._sent = self._target = None

    def end(self) -> None:
        """Stop, and end the thread."""
        with self._changed:
            self._sent = self._target = None
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                while self._target is None and not self._ended:
                    self._changed.wait()
                    due = time.monotonic()
                if self._ended:
                    return
                # Not under way any more after this `with`: `stop` has waited for it.
                self._step()
            # What was missed is not made up for by a burst.
            due = max(due + self._pause, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _step(self) -> None:
        share = min(1.0, (time.monotonic() + self._pause - self._begun) / self._period)
        way = self._target - self._start
        setpoint = self._target if share == 1.0 else self._start + share * way
        try:
            self._send(setpoint)
        except Exception as error:
            self._failure = str(error)
            self._sent = self._target = None
            return
        self._sent = setpoint
        if share == 1.0:
            self._target = None
