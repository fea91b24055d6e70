"""A terminal with single keys and a redrawn screen, put back as it was when closed."""

import contextlib
import os
import re
import select
import shutil
import sys
import termios
import tty
from collections.abc import Sequence

ENTER = "\x1b[?1049h\x1b[?25l"  # alternate screen, no cursor
# Arrow and function keys, none of which is a command.
ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?")
LEAVE = "\x1b[?25h\x1b[?1049l"


class TerminalLost(Exception):
    """The terminal was closed, or its connection broke."""


class Terminal:
    """Standard input and output as a screen.

    Raises:
        ValueError: one of them is not a terminal.
    """

    def __init__(self) -> None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise ValueError(
                "keyboard_labeler: expected a terminal on standard input and output, found a pipe "
                "or file; start it by itself in a terminal (over SSH: ssh -t), not from a launch "
                "file: ros2 run resfit_teleop_ui keyboard_labeler"
            )
        self._input = sys.stdin.fileno()
        self._output = sys.stdout.fileno()
        self._shown: list[str] = []
        self._saved = termios.tcgetattr(self._input)

    def open(self) -> None:
        """Single keys from here on, on a screen of its own."""
        tty.setcbreak(self._input)
        attributes = termios.tcgetattr(self._input)
        # A suspended labeler cannot answer for the robot, and a core dump leaves the screen broken.
        for control in (termios.VSUSP, termios.VQUIT):
            attributes[6][control] = b"\0"
        termios.tcsetattr(self._input, termios.TCSANOW, attributes)
        self._write(ENTER)

    @property
    def width(self) -> int:
        return shutil.get_terminal_size().columns

    def read_keys(self) -> str:
        """The keys pressed since the last call. Raises TerminalLost at end of file."""
        pressed = ""
        while select.select([self._input], [], [], 0.0)[0]:
            try:
                data = os.read(self._input, 1024)
            except OSError as error:
                raise TerminalLost from error
            if not data:
                raise TerminalLost
            pressed += data.decode(errors="ignore")
        return ESCAPE_SEQUENCE.sub("", pressed)

    def show(self, lines: Sequence[str]) -> None:
        """Draw the lines if they are not there already. Raises TerminalLost."""
        if list(lines) == self._shown:
            return
        self._shown = list(lines)
        # Each line clears its own rest: clearing the whole screen would flicker.
        self._write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")

    def close(self) -> None:
        """Put the terminal back as it was; a lost one has nothing to put back."""
        with contextlib.suppress(TerminalLost, termios.error):
            self._write(LEAVE)
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._saved)

    def _write(self, text: str) -> None:
        try:
            os.write(self._output, text.encode())
        except OSError as error:
            raise TerminalLost from error
