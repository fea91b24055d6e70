"""Processes that a spawned process depends on."""

from __future__ import annotations

import multiprocessing
import os
import threading


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
