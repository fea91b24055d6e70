"""Secret assignments that are fixed before a round and can be checked after it.

The record holds SHA-256(nonce + assignment) before the round, nonce and assignment after it. Both
are computed from a secret key in a file of its own, so a resumed process has them again, and from
the record alone nobody has them. Who reads the key file and computes can know an assignment: this
keeps people from seeing it, not from looking for it. At the end the key itself is revealed: then
everyone can check that all assignments, those of discarded rounds too, came from it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Assignment = Literal["ab", "ba"]  # policies in the order in which they act
ASSIGNMENTS: tuple[Assignment, Assignment] = ("ab", "ba")
_LENGTH = 32  # bytes


class CommitmentError(Exception):
    """A key or an assignment is not the one committed to; names the expected and the found."""


@dataclass(frozen=True)
class Secret:
    """Assignment of one round, with the nonce (hex) that hides it in its commitment."""

    assignment: Assignment
    nonce: str

    @property
    def commitment(self) -> str:
        """SHA-256 (hex) of nonce + assignment."""
        return hashlib.sha256((self.nonce + self.assignment).encode()).hexdigest()


class Key:
    """Where the assignments come from: a coin toss for each round, the same one each time."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def create(cls, file: Path) -> Key:
        """A new random key, in a new file that only its owner can read.

        Raises:
            FileExistsError: there is one.
            OSError: it could not be written.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        key = secrets.token_bytes(_LENGTH)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(key.hex() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        return cls(key)

    @classmethod
    def read(cls, file: Path) -> Key:
        """CommitmentError when there is no key in the file."""
        try:
            return cls.from_hex(file.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise CommitmentError(
                f"{file}: expected the key of an A/B test, found: {error}"
            ) from None

    @classmethod
    def from_hex(cls, text: str) -> Key:
        """ValueError when it is none."""
        key = bytes.fromhex(text)
        if len(key) != _LENGTH:
            raise ValueError(f"{len(key)} bytes, not {_LENGTH}")
        return cls(key)

    def hex(self) -> str:
        return self._key.hex()

    @property
    def commitment(self) -> str:
        """SHA-256 (hex) of the key."""
        return hashlib.sha256(self._key).hexdigest()

    def secret(self, number: int) -> Secret:
        """Of the round of this number."""
        coin = self._derive(f"assignment {number}")[0] & 1
        return Secret(ASSIGNMENTS[coin], self._derive(f"nonce {number}").hex())

    def _derive(self, purpose: str) -> bytes:
        return hmac.new(self._key, purpose.encode(), hashlib.sha256).digest()
