"""What the nodes that watch share: they answer nobody, and nobody waits for them."""

import sys
from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from resfit_ros import qos
from resfit_ros.conversions import diagnostics
from resfit_ros.run import run_node

# EX_CONFIG of sysexits.h. Exit code 1 ends the graph, which must outlive whoever watches it.
CANNOT_WATCH = 78


class Observer(Node):
    """A node with diagnostics each second, and a problem that it says once.

    Attributes:
        steady: clock of wall time, also while simulated time stands still.
        problem: what is wrong, or ''.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.problem = ""
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self.create_timer(1.0, self._diagnose, clock=self.steady)

    def report(self, problem: str) -> None:
        """Tell of a problem, once while it stays the same; '' when it is over."""
        if problem and problem != self.problem:
            self.get_logger().error(problem)
        self.problem = problem

    def diagnostic_values(self) -> Mapping[str, object]:
        return {}

    def _diagnose(self) -> None:
        self._diagnostics.publish(
            diagnostics(
                self.get_clock().now().to_msg(),
                self.get_fully_qualified_name(),
                DiagnosticStatus.ERROR if self.problem else DiagnosticStatus.OK,
                self.problem or "watching",
                self.diagnostic_values(),
            )
        )


def run_observer(factory: Callable[[], Node]) -> int:
    """As run_node, with another exit code for what the user must mend."""
    code = run_node(factory)
    if code != 1:
        return code
    print("the graph goes on unwatched", file=sys.stderr, flush=True)
    return CANNOT_WATCH
