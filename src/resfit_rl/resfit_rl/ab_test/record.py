"""An append-only record: JSON lines, each with the digest of the line before it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

BEFORE_THE_FIRST = "0" * 64  # stands for the digest of the line before it


class RecordError(Exception):
    """A record was changed, or is none; names file, line, the expected and the found."""


class Record:
    """The file of one test, open for appending.

    A line that a killed process left unfinished is cut off before the next one is written: nothing
    had been done on its strength, since `append` returns only once the line is on the disk.

    Attributes:
        events: what the lines say, in order.
        torn: bytes of an unfinished last line that the file was opened with, 0 for none.
    """

    def __init__(self, file: Path) -> None:
        """Opens the file, or makes it; RecordError as `read_record`."""
        self.events: list[dict[str, Any]] = []
        self.torn = 0
        self._head = BEFORE_THE_FIRST
        if file.exists():
            self.events, digests, self.torn = read_record(file)
            self._head = digests[-1]
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream: IO[bytes] = file.open("ab", buffering=0)
        self._size = self._stream.tell() - self.torn  # of the whole lines

    @property
    def head(self) -> str:
        """Digest (hex) of the last line: with it the whole record is known."""
        return self._head

    def append(self, event: Mapping[str, Any]) -> None:
        """Write an event; it is on the disk when this returns.

        Raises:
            OSError: it could not be written.
        """
        line = json.dumps({"previous": self._head, **event}, separators=(",", ":")).encode()
        # What a write that failed, or a killed process, may have left.
        self._stream.truncate(self._size)
        written = self._stream.write(line + b"\n")
        if written != len(line) + 1:
            raise OSError(f"record: expected {len(line) + 1} bytes written, found {written}")
        os.fsync(self._stream.fileno())
        self._size += written
        self._head = hashlib.sha256(line).hexdigest()
        self.events.append(dict(event))

    def close(self) -> None:
        self._stream.close()


def read_record(file: Path) -> tuple[list[dict[str, Any]], list[str], int]:
    """(N events; N + 1 digests (hex), [k] that of line k; bytes of an unfinished line at the end).

    That the last line was changed, or lines were cut off at the end, cannot be seen from the rest:
    compare the last digest with one that was noted elsewhere.

    Raises:
        RecordError: unreadable, or a line is not the one that was written.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise RecordError(f"{file}: expected the record of an A/B test, found: {error}") from None
    *lines, rest = data.split(b"\n")
    events, digests = [], [BEFORE_THE_FIRST]
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            found = event.pop("previous")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RecordError(
                f"{file}, line {number}: expected an event with the digest of the line before it, "
                f"found {line[:80]!r}"
            ) from None
        if found != digests[-1]:
            raise RecordError(
                f"{file}, line {number}: digest of the line before it: expected {digests[-1]}, "
                f"found {found}: a line before this one was changed, added or removed"
            )
        digests.append(hashlib.sha256(line).hexdigest())
        events.append(event)
    return events, digests, len(rest)
