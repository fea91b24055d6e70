"""What our lifecycle nodes share: guarded transitions, a start by themselves, diagnostics."""

import traceback
from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from resfit_interfaces.msg import NodeHeartbeat
from resfit_ros import qos
from resfit_ros.conversions import diagnostics
from resfit_ros.run import ExitRequest

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR
_LEVELS = {
    NodeHeartbeat.READY: DiagnosticStatus.OK,
    NodeHeartbeat.ERROR: DiagnosticStatus.ERROR,
}


class DiagnosedLifecycleNode(LifecycleNode):
    """A subclass hands each of its transitions to `guarded`.

    Attributes:
        reason: why the last transition failed; empty when none did.
        starting: whether `bring_up` is at work, whose caller says the reason.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.reason = ""
        self.starting = False
        self._exit: ExitRequest | None = None
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)

    def guarded(self, step: Callable[[], TransitionCallbackReturn]) -> TransitionCallbackReturn:
        """rclpy turns an exception into ERROR without a word, and would swallow a signal's."""
        try:
            return step()
        except ExitRequest as request:
            self._exit = request
            return FAILURE
        except Exception as error:
            traceback.print_exc()
            self.reason = f"{type(error).__name__}: {error}"
            return ERROR

    def bring_up(self) -> bool:
        """Configure and activate; False, with the reason set, when that failed.

        Raises:
            ExitRequest: a signal came meanwhile.
        """
        self.starting = True
        up = self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS
        self.starting = False
        if self._exit is not None:
            raise self._exit
        return up

    def publish_diagnostics(self, state: int, message: str, values: Mapping[str, object]) -> None:
        """`state` and `message` as those of the heartbeat."""
        self._diagnostics.publish(
            diagnostics(
                self.get_clock().now().to_msg(),
                self.get_fully_qualified_name(),
                _LEVELS.get(state, DiagnosticStatus.WARN),
                message,
                {"lifecycle state": self._state_machine.current_state[1], **values},
            )
        )
