"""Start of an executable: quiet, should it be told to end before it has begun."""

import importlib
import os
import signal


def start(module: str) -> int:
    """Import `module`, which may take seconds, and run its `main`; the exit code.

    A SIGINT or SIGTERM during the import ends the process with exit code 0: there is nothing to
    clean up yet, and a traceback out of some library would hide what the user needs to read.
    """
    before = {
        number: signal.signal(number, lambda *_: os._exit(0))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    main = importlib.import_module(module).main
    for number, handler in before.items():
        signal.signal(number, handler)
    return int(main())
