"""The main function that all nodes share: one clear error at start, clean shutdown, exit codes."""

import signal
import sys
import traceback
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

# Unlike 1, which asks the user to mend something, worth a new start (EX_SOFTWARE of sysexits.h).
CRASHED = 70


class ExitRequest(Exception):
    """Raised in a callback to end the node with this exit code."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(code)
        self.code = code


def run_node(factory: Callable[[], Node]) -> int:
    """Run one node until SIGINT or SIGTERM (exit code 0) or an ExitRequest.

    A ValueError or OSError while the node is built is the user's to mend: it becomes one line on
    stderr and exit code 1; any other exception ends with its traceback and exit code 70. The node's
    `close()`, where it has one, is called in every case.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)

    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        # In the middle of a callback an exception could surface inside rclpy's C++ code, which
        # turns it into another one; while the node is built nobody looks at the flag.
        if executor is None:
            raise ExitRequest(0)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    node = None
    executor = None
    code = 0
    try:
        node = factory()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while rclpy.ok() and not stopping:
            # A bounded wait lets Python run its signal handlers.
            executor.spin_once(timeout_sec=0.1)
    except ExitRequest as request:
        code = request.code
    except ExternalShutdownException:
        pass
    except Exception as error:
        if node is None and isinstance(error, ValueError | OSError):
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = 1
        else:
            traceback.print_exc()
            code = CRASHED
    finally:
        # A second Ctrl-C must not cut the clean-up short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if node is not None:
            close = getattr(node, "close", None)
            if close is not None:
                close()
            node.destroy_node()
        rclpy.try_shutdown()
    return code
