"""How long from a wrench over its threshold until the robot holds, in a running graph.

    ros2 launch resfit_bringup vega_rl.launch.py mode:=real_time residual:=false learner:=false
    ./resfit bench wrench-reaction trials:=30 [namespace:=/robot_1]

Once in each episode, at a random moment, this node sends one sample over the threshold on the topic
of a wrist, as a sensor would. Times are wall times of the machine that runs it all:

- verdict: from there until the safety monitor's stop has come to this node;
- hold: from the stop's arrival at the driver until the hold is commanded, by the driver's own clock
  (in /diagnostics, after the episode);
- reaction: their sum, from the sample to the hold;
- report: from the sample until executed_action tells of the hold, which is at the end of its step.

Commands counts the steps that were commanded between sample and hold; the one whose step was under
way when the sample came is not among them, for nothing can take it back.
"""

import argparse
import sys
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import WrenchStamped
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from resfit_interfaces.msg import EpisodeState, ExecutedAction, SafetyStatus
from resfit_ros import qos

HOLD = "safety stop to hold, ms"  # as drivers call it in /diagnostics
PERIOD = 0.05  # s
TIMEOUT = 120.0  # s, for an episode that runs
STEPS = (10, 30)  # of an episode, before the sample


class Reaction(Node):
    """Watches one episode after the other and disturbs it once."""

    def __init__(self, namespace: str, wrist: str, force: float) -> None:
        super().__init__("wrench_reaction", namespace=namespace)
        self._force = force
        self._state = EpisodeState()
        self._steps: list[tuple[float, ExecutedAction]] = []  # of the episode, with s of arrival
        self._verdict = 0.0
        self._hold = ""
        self._newest: WrenchStamped | None = None
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        topic = f"wrenches/{wrist}"
        self._wrench = self.create_publisher(WrenchStamped, topic, qos.SENSOR)
        for kind, name, callback, profile in (
            (EpisodeState, "episode_state", self._on_state, qos.LATCHED),
            (ExecutedAction, "executed_action", self._on_executed, qos.EVENT),
            (SafetyStatus, "safety_status", self._on_safety, qos.EVENT),
            (WrenchStamped, topic, self._on_wrench, qos.SENSOR),
            (DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.DIAGNOSTICS),
        ):
            self.create_subscription(kind, name, callback, profile)

    @property
    def episode(self) -> int:
        return self._state.episode_id

    def _on_state(self, message: EpisodeState) -> None:
        if message.episode_id != self._state.episode_id:
            self._steps.clear()
            self._verdict = 0.0
        self._state = message

    def _on_executed(self, message: ExecutedAction) -> None:
        if message.episode_id and message.episode_id == self._state.episode_id:
            self._steps.append((time.monotonic(), message))

    def _on_safety(self, message: SafetyStatus) -> None:
        stopped = not message.motion_allowed and message.episode_id == self._state.episode_id
        if stopped and not self._verdict:
            self._verdict = time.monotonic()

    def _on_wrench(self, message: WrenchStamped) -> None:
        self._newest = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._hold = next((v.value for v in status.values if v.key == HOLD), self._hold)

    def until(self, condition, timeout: float) -> bool:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if condition():
                return True
            self._executor.spin_once(timeout_sec=0.05)
        return bool(condition())

    def trial(self, rng: np.random.Generator) -> dict[str, float] | None:
        """One episode; None when it ended before it was disturbed, or otherwise."""
        wanted = int(rng.integers(*STEPS))
        running = EpisodeState.RUNNING
        if not self.until(
            lambda: self._state.state == running and 0 < len(self._steps) <= wanted, TIMEOUT
        ):
            raise SystemExit(f"expected a running episode within {TIMEOUT:g} s, found none")
        if not self.until(
            lambda: len(self._steps) >= wanted or self._state.state != running, TIMEOUT
        ):
            return None
        time.sleep(rng.uniform(0, PERIOD))  # anywhere within a period
        if self._state.state != running or self._verdict or self._newest is None:
            return None
        message = self._newest
        message.wrench.force.z += self._force
        episode, known = self._state.episode_id, len(self._steps)
        sent = time.monotonic()
        self._wrench.publish(message)

        def fault():
            return next((step for step in self._steps[known:] if step[1].fault), None)

        if not self.until(lambda: fault() is not None and self._verdict, 5.0):
            return None
        # The next episode forgets both; what the driver tells from now on includes this hold.
        (reported, step), verdict, self._hold = fault(), 1e3 * (self._verdict - sent), ""
        if not step.reason.startswith("safety: wrench") or step.episode_id != episode:
            return None
        # Told of after the sample and yet commanded before it: what was under way.
        between = sum(not s.held for _, s in self._steps[known:]) - 1
        between = max(0, between)
        if not self.until(lambda: self._hold != "", 5.0):
            raise SystemExit(f"expected '{HOLD}' of the driver in /diagnostics, found none")
        hold = float(self._hold)
        return {
            "verdict": verdict,
            "hold": hold,
            "reaction": verdict + hold,
            "report": 1e3 * (reported - sent),
            "commands": between,
        }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--wrist", default="right")
    parser.add_argument("--force", type=float, default=1000.0, help="N, on top of what is measured")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--namespace", default="")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    rclpy.init()
    node = Reaction(arguments.namespace, arguments.wrist, arguments.force)
    rows: list[dict[str, float]] = []
    spoilt = 0
    try:
        while len(rows) < arguments.trials and spoilt <= 5 * arguments.trials:
            row = node.trial(rng)
            if row is None:
                spoilt += 1
            else:
                rows.append(row)
                print(f"\r{len(rows)} of {arguments.trials} ", end="", file=sys.stderr, flush=True)
            episode = node.episode
            node.until(lambda episode=episode: node.episode != episode, TIMEOUT)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # What was measured so far is told.
    print(file=sys.stderr)
    if not rows:
        print(f"no trial of {spoilt} came to a safety stop", file=sys.stderr)
        return 1
    print(f"{len(rows)} trials, {spoilt} episodes ended otherwise; ms (control periods)\n")
    print("| | p50 | p99 | max |\n| --- | --- | --- | --- |")
    for name in ("verdict", "hold", "reaction", "report"):
        values = np.percentile([row[name] for row in rows], [50, 99, 100])
        cells = (f"{value:.1f} ({value / 1e3 / PERIOD:.2f})" for value in values)
        print(f"| {name} | " + " | ".join(cells) + " |")
    commands = [int(row["commands"]) for row in rows]
    print(f"\ncommands between sample and hold: at most {max(commands)}, in all {sum(commands)}")
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
