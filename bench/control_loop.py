"""Rates, jitter of the control period and latency of a running graph, seen from outside.

    python bench/control_loop.py --seconds 30 [--namespace /robot]

All times are wall times at which this process received a message, so they include the transport
and this observer's own scheduling; the nodes' own numbers from /diagnostics follow below them.
"""

import argparse
import sys
import time
from collections import defaultdict

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import WrenchStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image

from resfit_interfaces.msg import ActionCommand, ExecutedAction
from resfit_ros import qos
from resfit_ros.conversions import stamp_to_ns

TYPES = {
    "sensor_msgs/msg/Image": (Image, qos.SENSOR),
    "geometry_msgs/msg/WrenchStamped": (WrenchStamped, qos.SENSOR),
    "resfit_interfaces/msg/ActionCommand": (ActionCommand, qos.EVENT),
    "resfit_interfaces/msg/ExecutedAction": (ExecutedAction, qos.EVENT),
}


class Observer(Node):
    """Notes when each message came."""

    def __init__(self, namespace: str) -> None:
        super().__init__("control_loop_observer", namespace=namespace)
        self.received: dict[str, list[float]] = defaultdict(list)  # topic -> s
        self.images: dict[int, float] = {}  # stamp -> when its last picture first came
        self.latencies: list[float] = []  # s
        self.executed: list[tuple[int, int, float]] = []  # episode, step, s
        self.held = 0
        self.status: dict[str, dict[str, str]] = {}
        self._seen: set[object] = set()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.DIAGNOSTICS
        )

    def subscribe(self, seconds: float) -> int:
        """Subscribe to the topics of this namespace found within `seconds`; their number."""
        self.spin(seconds)
        prefix = self.get_namespace().rstrip("/") + "/"
        topics = [
            (name, types[0])
            for name, types in self.get_topic_names_and_types()
            if name.startswith(prefix) and types[0] in TYPES
        ]
        for name, kind in topics:
            message, profile = TYPES[kind]
            self.create_subscription(
                message, name, lambda m, name=name: self._on_message(name, m), profile
            )
        return len(topics)

    def spin(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._executor.spin_once(timeout_sec=0.1)

    def _on_message(self, name: str, message: object) -> None:
        now = time.perf_counter()
        self.received[name].append(now)
        stamp = stamp_to_ns(message.header.stamp)
        if (name, stamp) in self._seen:  # a repetition of the same observation
            return
        self._seen.add((name, stamp))
        if isinstance(message, Image):
            self.images[stamp] = now
        elif isinstance(message, ActionCommand) and stamp in self.images:
            self.latencies.append(now - self.images[stamp])
        elif isinstance(message, ExecutedAction) and message.episode_id:
            self.executed.append((message.episode_id, message.step, now))
            self.held += message.held

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.status[status.name] = {item.key: item.value for item in status.values}

    def control_periods(self) -> list[float]:
        """s between one executed step and the next of the same episode."""
        return [
            after[2] - before[2]
            for before, after in zip(self.executed, self.executed[1:], strict=False)
            if after[:2] == (before[0], before[1] + 1)
        ]


def percentiles(name: str, seconds: list[float]) -> str:
    if not seconds:
        return f"| {name} | 0 | - | - | - |"
    p50, p99 = 1e3 * np.percentile(seconds, [50, 99])
    return f"| {name} | {len(seconds)} | {p50:.1f} | {p99:.1f} | {1e3 * max(seconds):.1f} |"


def report(observer: Observer, seconds: float) -> str:
    lines = [f"## Topics, over {seconds:.0f} s", "| topic | messages | Hz |", "| --- | --- | --- |"]
    for name, times in sorted(observer.received.items()):
        lines.append(f"| {name} | {len(times)} | {len(times) / seconds:.2f} |")
    lines += [
        "",
        "## Times, ms",
        "| what | n | p50 | p99 | max |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines.append(percentiles("control period", observer.control_periods()))
    lines.append(percentiles("newest picture to action command", observer.latencies))
    lines.append(f"\n{observer.held} of {len(observer.executed)} executed steps were held.")
    for name, values in sorted(observer.status.items()):
        lines += ["", f"## {name}", "| value | |", "| --- | --- |"]
        lines += [f"| {key} | {value} |" for key, value in values.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--namespace", default="")
    arguments = parser.parse_args()
    rclpy.init()
    observer = Observer(arguments.namespace)
    try:
        if not observer.subscribe(2.0):
            print("error: no topics of a running graph found; start one first", file=sys.stderr)
            return 1
        start = time.monotonic()
        observer.spin(arguments.seconds)
        print(report(observer, time.monotonic() - start))
        return 0
    except KeyboardInterrupt:
        return 130
    finally:
        observer.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
