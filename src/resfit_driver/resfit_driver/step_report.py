"""What a driver tells of its steps: to the graph, in its log and in its diagnostics."""

import time
from collections import Counter, deque

import numpy as np
from rclpy.node import Node

from resfit_driver.stepping import Phase, Stepping
from resfit_interfaces.msg import ExecutedAction
from resfit_ros.conversions import NANOSECONDS
from resfit_safety.action_gate import Verdict


class StepReport:
    """Counts of the present episode, and refusals of all.

    Attributes:
        periods: s between the newest published observations.
    """

    def __init__(self, node: Node, stepping: Stepping) -> None:
        self._node = node
        self._stepping = stepping
        self._refusals: Counter[str] = Counter()
        self._last_refusal = ""
        self.reset()

    def reset(self) -> None:
        """The robot is at the start of an episode."""
        self._steps = self._held = 0
        self._begun = time.monotonic()
        self.periods: deque[float] = deque(maxlen=200)
        self._published = time.monotonic_ns()

    def executed_action(self, verdict: Verdict, episode_id: int) -> ExecutedAction:
        """The present step with this verdict, without a stamp; 0: of no episode."""
        return ExecutedAction(
            episode_id=episode_id,
            step=self._stepping.step if episode_id else 0,
            action=verdict.action,
            held=verdict.held,
            fault=verdict.fault,
            reason=verdict.reason,
        )

    def stepped(self, verdict: Verdict) -> None:
        """A step of an episode was made."""
        self._steps += 1
        self._held += verdict.held

    def refuse(self, executed: ExecutedAction) -> None:
        """It was a fault: no step of its episode will follow."""
        self._stepping.fault()
        self._last_refusal = executed.reason
        self._refusals[executed.reason.partition(":")[0]] += 1
        self._node.get_logger().error(
            f"episode {executed.episode_id}, step {executed.step}: {executed.reason}: holding"
        )

    def published(self, now: int) -> None:
        """An observation goes out, at `now` ns of the steady clock."""
        self.periods.append((now - self._published) / NANOSECONDS)
        self._published = now

    def moved_on(self, before: Phase, late_commands: int) -> None:
        """The phase, `before` until now, may be another one: an episode began or is over."""
        stepping = self._stepping
        if before is Phase.READY and stepping.running:
            self._begun = time.monotonic()
        elif before not in (Phase.IDLE, Phase.READY) and stepping.phase is Phase.IDLE:
            seconds = max(time.monotonic() - self._begun, 1e-9)
            self._node.get_logger().info(
                f"episode {stepping.episode_id}: over after {self._steps} steps, "
                f"{self._steps / seconds:.1f} steps/s, {self._held} held, "
                f"{late_commands} late commands"
            )

    def values(self) -> dict[str, object]:
        """For diagnostics."""
        p50, p99, longest = np.percentile(1e3 * np.array(self.periods or [np.nan]), [50, 99, 100])
        return {
            "phase": self._stepping.phase.name.lower(),
            "episode": self._stepping.episode_id,
            "step": self._stepping.step,
            "held steps": self._held,
            "overrun periods": self._stepping.overruns,
            "period p50, ms": f"{p50:.2f}",
            "period p99, ms": f"{p99:.2f}",
            "period max, ms": f"{longest:.2f}",
            "last refusal": self._last_refusal,
            **{f"refused: {what}": count for what, count in self._refusals.items()},
        }
