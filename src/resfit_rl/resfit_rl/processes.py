"""How processes that work for another one begin and end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess


def end_with_parent() -> None:
    """End this process at once when the one that spawned it has ended, however it ended.

    An orphan would go on with work that nobody waits for, in files that the next run writes.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def start_without_ctrl_c(process: BaseProcess) -> None:
    """Start `process`, which Ctrl-C, though it goes to all of a terminal, will not reach.

    Blocked from before its start: it would else end with a traceback while it still imports.
    """
    # Where it is not running yet, starting it would unblock the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(process: BaseProcess, patience: float = 5.0) -> None:
    """End `process`: asked first, killed after `patience` s; it has ended then."""
    process.terminate()
    process.join(patience)
    if process.is_alive():
        process.kill()
        process.join()
