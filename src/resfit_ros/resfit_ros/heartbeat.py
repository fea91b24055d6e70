"""Sign of life of a node, on wall time, so that it goes on while simulated time stands still."""

import uuid

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from resfit_interfaces.msg import NodeHeartbeat
from resfit_ros import qos

PERIOD = 0.2  # s


class Heartbeat:
    """Publishes NodeHeartbeat on `heartbeat` every 0.2 s and at each change of state.

    It shares the node's executor on purpose: a node whose callbacks hang falls silent.
    """

    def __init__(self, node: Node, role: str) -> None:
        self._node = node
        self._message = NodeHeartbeat(
            role=role, session_id=uuid.uuid4().hex, state=NodeHeartbeat.STARTING
        )
        self._publisher = node.create_publisher(NodeHeartbeat, "heartbeat", qos.HEARTBEAT)
        self._timer = node.create_timer(
            PERIOD, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    @property
    def session_id(self) -> str:
        """Another one in each process, so that a restart is seen."""
        return str(self._message.session_id)

    @property
    def state(self) -> int:
        return int(self._message.state)

    @property
    def message(self) -> str:
        return str(self._message.message)

    def set(self, state: int, message: str = "") -> None:
        """Change state (a NodeHeartbeat constant); published at once when it is another one."""
        if (state, message) == (self._message.state, self._message.message):
            return
        self._message.state = state
        self._message.message = message
        self.publish()

    def publish(self) -> None:
        self._message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(self._message)
