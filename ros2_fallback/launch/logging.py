"""Screen output and the log folder of a launch.

Screen: `[INFO] [name]: text` for the launch system, plain text for children's lines.
File: `launch.log` in a folder of its own below ROS_LOG_DIR, ROS_HOME/log or ~/.ros/log.
"""

from __future__ import annotations

import datetime
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

SCREEN_FORMAT = "[{levelname}] [{name}]: {message}"
FILE_FORMAT = "{created:.7f} [{levelname}] [{name}]: {message}"
DESTINATIONS = ("screen", "log", "own_log")

_log_dir: Path | None = None
_handlers: dict[Any, logging.Handler] = {}


class _Screen(logging.StreamHandler):
    """Writes to whatever sys.stdout is at the time of the line."""

    def __init__(self, text_format: str) -> None:
        super().__init__(sys.stdout)
        self.setFormatter(logging.Formatter(text_format, style="{"))

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)


def log_dir() -> Path:
    """The folder of this launch's logs, made on first use; `latest` links to it."""
    global _log_dir
    if _log_dir is None:
        base = os.environ.get("ROS_LOG_DIR") or os.path.join(
            os.environ.get("ROS_HOME") or "~/.ros", "log"
        )
        stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H-%M-%S-%f")
        name = f"{stamp}-{socket.gethostname()}-{os.getpid()}"
        folder = Path(os.path.normpath(os.path.expanduser(base))) / name
        folder.mkdir(parents=True)
        latest, link = folder.parent / "latest", folder.parent / f".latest-{os.getpid()}"
        try:
            link.symlink_to(folder, target_is_directory=True)
            os.replace(link, latest)
        except OSError:  # the link is a convenience only
            link.unlink(missing_ok=True)
        _log_dir = folder
    return _log_dir


def _file_handler(file_name: str, text_format: str) -> logging.Handler:
    key = (file_name, text_format)
    if key not in _handlers:
        handler = logging.FileHandler(log_dir() / file_name, encoding="utf-8")
        handler.setFormatter(logging.Formatter(text_format, style="{"))
        _handlers[key] = handler
    return _handlers[key]


def _screen_handler(text_format: str) -> logging.Handler:
    return _handlers.setdefault(text_format, _Screen(text_format))


def _logger(name: str, handlers: list[logging.Handler]) -> logging.Logger:
    logger = logging.getLogger(f"ros2_fallback.{name}")
    logger.name = name  # what the format shows
    logger.propagate = False
    for handler in handlers:
        if handler not in logger.handlers:
            logger.addHandler(handler)
    return logger


def set_level(level: int) -> None:
    """Verbosity of the launch system itself."""
    logging.getLogger("ros2_fallback").setLevel(level)


def get_logger(name: str = "launch") -> logging.Logger:
    """Logger of the launch system: screen and launch.log."""
    return _logger(
        name,
        [_screen_handler(SCREEN_FORMAT), _file_handler("launch.log", FILE_FORMAT)],
    )


def _destinations(output: Any) -> dict[str, set[str]]:
    everywhere = set(DESTINATIONS)
    named = {
        "screen": {"both": {"screen"}},
        "log": {"both": {"log"}, "stderr": {"screen"}},
        "both": {"both": {"log", "screen"}},
        "own_log": {key: {"own_log"} for key in ("both", "stdout", "stderr")},
        "full": {"both": everywhere, "stdout": {"own_log"}, "stderr": {"own_log"}},
    }
    if isinstance(output, str):
        if output not in named:
            raise ValueError(
                f"output: expected one of {', '.join(named)} or a dict, got '{output}'"
            )
        chosen: dict[str, Any] = named[output]
    else:
        chosen = {k: {v} if isinstance(v, str) else set(v) for k, v in output.items()}
        for source, wanted in chosen.items():
            if source not in ("stdout", "stderr", "both") or not wanted <= everywhere:
                raise ValueError(
                    f"output: expected stdout, stderr or both to {', '.join(DESTINATIONS)}, "
                    f"got '{source}' to {sorted(wanted)}"
                )
    return {source: set(chosen.get(source, ())) for source in ("both", "stdout", "stderr")}


def get_output_loggers(name: str, output: Any) -> tuple[logging.Logger, logging.Logger]:
    """(stdout logger, stderr logger) of a process; `output` as Node's argument of that name."""
    wanted = _destinations(output)
    loggers = []
    for source in ("stdout", "stderr"):
        handlers: list[logging.Handler] = []
        if "screen" in wanted["both"] | wanted[source]:
            handlers.append(_screen_handler("{message}"))
        if "log" in wanted["both"] | wanted[source]:
            handlers.append(_file_handler("launch.log", "{created:.7f} {message}"))
        if "own_log" in wanted[source]:
            handlers.append(_file_handler(f"{name}-{source}.log", "{message}"))
        if "own_log" in wanted["both"]:
            handlers.append(_file_handler(f"{name}.log", "{message}"))
        loggers.append(_logger(f"{name}-{source}", handlers or [logging.NullHandler()]))
    return loggers[0], loggers[1]
