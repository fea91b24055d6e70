"""The course of a blind test: whose turn it is, what has been labelled, when identities come out.

A round begins with a random scene and a secret order of the two policies, 'first' and 'second'.
Each acts once from that scene, each outcome is labelled, and only then is the order revealed. All
of it goes through the record, so a killed test goes on where it was.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resfit_rl.ab_test.commitments import ASSIGNMENTS, CommitmentError, Key, Secret
from resfit_rl.ab_test.record import Record, RecordError, read_record
from resfit_rl.ab_test.statistics import Pair, StoppingRule
from resfit_rl.episode_store.run import claim_role

FORMAT = "resfit-ab-test/1"
RECORD, KEY = "record.jsonl", "key"
Policy = Literal["a", "b"]
Which = Literal["first", "second"]
_TURNS: tuple[Which, Which] = ("first", "second")


class BlindTestError(Exception):
    """A test is another one, or something was asked of it out of turn."""


@dataclass(frozen=True)
class Terms:
    """What a test is, fixed before its first round.

    Attributes:
        task, implementation: see resfit_rl.tasks.Task.
        policy_a, policy_b: their identities.
        seed: of the scenes.
        labels: 'automatic' or 'keyboard'.
        alpha, max_rounds: of the stopping rule.
        conditions: how policies are run, such as the time limit; JSON-ready.
    """

    task: str
    implementation: str
    policy_a: str
    policy_b: str
    seed: int = 0
    labels: str = "automatic"
    alpha: float = 0.05
    max_rounds: int = 50
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rule(self) -> StoppingRule:
        return StoppingRule(self.alpha, self.max_rounds)

    def scene(self, number: int) -> int:
        """Seed of the scene of a round, 31 bits."""
        return int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0] >> 1)


@dataclass(frozen=True)
class Turn:
    """One rollout that is due: `which` of the two of round `number`, from the scene of `seed`."""

    number: int
    seed: int
    which: Which


@dataclass(frozen=True)
class Round:
    """A round whose identities are known.

    Attributes:
        number: from 1; discarded rounds have numbers too.
        seed: of its scene.
        first: the policy that acted first.
        success_a, success_b: the labels.
        facts_a, facts_b: what else was stored with them.
    """

    number: int
    seed: int
    first: Policy
    success_a: bool
    success_b: bool
    facts_a: Mapping[str, Any]
    facts_b: Mapping[str, Any]

    @property
    def pair(self) -> Pair:
        return self.success_a, self.success_b


@dataclass
class _Progress:
    """What the events so far come to; `take` checks each against those before it."""

    terms: Terms | None = None
    key_commitment: str = ""
    number: int = 0  # of the newest round
    commitments: dict[int, str] = field(default_factory=dict)
    open: bool = False
    labels: list[dict[str, Any]] = field(default_factory=list)  # of the open round
    rounds: list[Round] = field(default_factory=list)
    discarded: int = 0
    ended: str | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """ValueError when the event cannot come now, or is not what was committed to."""
        kind = event["type"]
        if self.ended is not None:
            raise ValueError(f"expected nothing after the end, found {kind}")
        if (kind == "begin") != (self.terms is None):
            raise ValueError(f"expected the terms in the first line only, found {kind}")
        steps = {
            "begin": self._begin,
            "round": self._round,
            "label": self._label,
            "discard": self._discard,
            "reveal": self._reveal,
            "end": self._end,
        }
        if kind not in steps:
            raise ValueError(f"type: expected one of {', '.join(steps)}, found {kind}")
        steps[kind](event)

    def _begin(self, event: Mapping[str, Any]) -> None:
        _expect("format", FORMAT, event["format"])
        self.terms = Terms(**event["terms"])
        self.key_commitment = event["key_commitment"]

    def _round(self, event: Mapping[str, Any]) -> None:
        assert self.terms is not None
        if self.open:
            raise ValueError(f"expected round {self.number} to be closed, found another one")
        _expect("round", self.number + 1, event["round"])
        _expect("seed", self.terms.scene(event["round"]), event["seed"])
        self.number, self.open, self.labels = event["round"], True, []
        self.commitments[self.number] = event["commitment"]

    def _label(self, event: Mapping[str, Any]) -> None:
        self._expect_open(event)
        due = _TURNS[len(self.labels)] if len(self.labels) < 2 else "no label"
        _expect("label", due, event["which"])
        if not isinstance(event["success"], bool):
            raise ValueError(f"success: expected true or false, found {event['success']!r}")
        start = event["facts"].get("start")
        if self.labels:
            _expect("start", self.labels[0]["facts"].get("start"), start)
        self.labels.append(dict(event))

    def _discard(self, event: Mapping[str, Any]) -> None:
        self._expect_open(event)
        if len(self.labels) == 2:
            raise ValueError(f"expected round {self.number} to be revealed, found it discarded")
        self.open = False
        self.discarded += 1

    def _reveal(self, event: Mapping[str, Any]) -> None:
        assert self.terms is not None
        self._expect_open(event)
        if len(self.labels) < 2:
            raise ValueError(f"expected two labels before the identities, found {len(self.labels)}")
        secret = Secret(event["assignment"], event["nonce"])
        if secret.assignment not in ASSIGNMENTS:
            raise ValueError(f"assignment: expected ab or ba, found {secret.assignment!r}")
        _expect("commitment", self.commitments[self.number], secret.commitment)
        by_policy = dict(zip(secret.assignment, self.labels, strict=True))
        a, b = by_policy["a"], by_policy["b"]
        self.rounds.append(
            Round(
                self.number,
                self.terms.scene(self.number),
                "a" if secret.assignment == "ab" else "b",
                a["success"],
                b["success"],
                a["facts"],
                b["facts"],
            )
        )
        self.open = False

    def _end(self, event: Mapping[str, Any]) -> None:
        assert self.terms is not None
        if self.open:
            raise ValueError(f"expected round {self.number} to be closed, found the end")
        _expect("reason", self.terms.rule.reason(self.pairs), event["reason"])
        key = Key.from_hex(event["key"])
        _expect("key commitment", self.key_commitment, key.commitment)
        for number, commitment in self.commitments.items():
            _expect(f"commitment of round {number}", key.secret(number).commitment, commitment)
        self.ended = event["reason"]

    @property
    def pairs(self) -> list[Pair]:
        return [one.pair for one in self.rounds]

    def _expect_open(self, event: Mapping[str, Any]) -> None:
        if not self.open:
            raise ValueError(f"expected an open round, found a {event['type']} outside of one")
        _expect("round", self.number, event["round"])


class BlindTest:
    """One test, new or resumed; one process at a time.

    Whoever runs the rollouts asks `next_turn` what is due, `unseal`s the policy that acts, and
    brings the label. Nobody else learns the policy before the round's second label is stored.

    Attributes:
        folder: holds the record, and the key in a file that only its owner can read.
        terms: what the test is.
        torn: bytes of an unfinished last line that are cut off before the next one, 0 for none.
    """

    def __init__(self, folder: Path, terms: Terms, clock: Callable[[], float] = time.time) -> None:
        """Begin a test in `folder`, or go on with the one that is there.

        Args:
            clock: time of the events, s since 1970.

        Raises:
            BlindTestError: the test that is there has other terms.
            RecordError, CommitmentError: its record or its key is damaged.
            RunError: another process is at it.
        """
        terms.rule  # noqa: B018  # checked before anything is written
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._clock = folder, clock
        self._claim = claim_role(folder, "ab_test")
        try:
            self._record = Record(folder / RECORD)
            self.torn = self._record.torn
            self._progress = _replayed(self._record.events, folder / RECORD)
            self._begin(terms)
        except BaseException:
            self._claim.close()
            raise
        if self._progress.open and len(self._progress.labels) == 2:
            self._reveal()

    def _begin(self, terms: Terms) -> None:
        found = self._progress.terms
        file = self.folder / KEY
        if found is None:
            # A key without a record is that of a test killed before its first line.
            self._key = Key.read(file) if file.exists() else Key.create(file)
            self._append(
                "begin",
                format=FORMAT,
                terms=asdict(terms),
                key_commitment=self._key.commitment,
            )
            found = self._progress.terms
        else:
            for one in fields(Terms):
                expected, given = getattr(found, one.name), getattr(terms, one.name)
                if expected != given:
                    raise BlindTestError(
                        f"{self.folder}: {one.name}: expected {expected} as its record's first "
                        f"line says, found {given} (another test: choose another folder)"
                    )
            self._key = Key.read(file)
            if self._key.commitment != self._progress.key_commitment:
                raise CommitmentError(
                    f"{file}: expected the key that the record's first line commits to, found "
                    "another"
                )
        self.terms = terms

    def close(self) -> None:
        """Let another process go on with the test."""
        self._record.close()
        self._claim.close()

    @property
    def rounds(self) -> list[Round]:
        """Those whose identities are known, in order."""
        return list(self._progress.rounds)

    @property
    def discarded(self) -> int:
        """Rounds that were thrown away."""
        return self._progress.discarded

    @property
    def ended(self) -> str | None:
        """Why the test has ended, None while it goes on."""
        return self._progress.ended

    @property
    def head(self) -> str:
        """Digest (hex) of the record's last line."""
        return self._record.head

    @property
    def lines(self) -> int:
        """Of the record."""
        return len(self._record.events)

    def next_turn(self) -> Turn | None:
        """The rollout that is due, the same one until it is labelled; None after the end.

        Begins a round, or ends the test, where that is due.
        """
        if self._progress.ended is not None:
            return None
        if not self._progress.open:
            reason = self.terms.rule.reason(self._progress.pairs)
            if reason is not None:
                self._append("end", reason=reason, key=self._key.hex())
                return None
            number = self._progress.number + 1
            self._append(
                "round",
                round=number,
                seed=self.terms.scene(number),
                commitment=self._key.secret(number).commitment,
            )
        number = self._progress.number
        return Turn(number, self.terms.scene(number), _TURNS[len(self._progress.labels)])

    def unseal(self, turn: Turn) -> Policy:
        """Which policy acts in `turn`: for the machine that lets it act, and for nobody's eyes.

        Raises:
            BlindTestError: another turn is due.
        """
        self._expect_due(turn)
        assignment = self._key.secret(turn.number).assignment
        return "a" if assignment[_TURNS.index(turn.which)] == "a" else "b"

    def record_label(
        self, turn: Turn, success: bool, facts: Mapping[str, Any] | None = None
    ) -> Round | None:
        """Store how the rollout of `turn` ended, for good.

        Args:
            facts: JSON-ready, stored with it. They must not say which policy it was. 'start', where
                given, is the digest of the initial state: that of both turns must be the same.

        Returns:
            The round with its identities once both of its labels are stored, else None.

        Raises:
            BlindTestError: another turn is due, or the two did not start from the same state.
        """
        self._expect_due(turn)
        self._append(
            "label",
            round=turn.number,
            which=turn.which,
            success=success,
            facts=dict(facts or {}),
        )
        if turn.which == _TURNS[0]:
            return None
        return self._reveal()

    def discard(self, reason: str) -> None:
        """Throw the open round away, unseen: its identities stay secret until the end.

        Raises:
            BlindTestError: no round is open.
        """
        self._append("discard", round=self._progress.number, reason=reason)

    def _reveal(self) -> Round:
        number = self._progress.number
        secret = self._key.secret(number)
        self._append(
            "reveal",
            round=number,
            assignment=secret.assignment,
            nonce=secret.nonce,
        )
        return self._progress.rounds[-1]

    def _expect_due(self, turn: Turn) -> None:
        if not self._progress.open or turn != self.next_turn():
            raise BlindTestError(f"expected the turn that is due, found {turn}")

    def _append(self, kind: str, **event: Any) -> None:
        line = {"type": kind, "time": round(self._clock(), 3), **event}
        after = copy.deepcopy(self._progress)
        try:
            after.take(line)
        except ValueError as error:
            raise BlindTestError(f"{self.folder}: {error}") from None
        self._record.append(line)
        self._progress = after  # not before the line is on the disk


@dataclass(frozen=True)
class Verified:
    """A record in which every line is as it was written and every promise was kept.

    Attributes:
        terms: what the test is.
        rounds: those whose identities are known.
        discarded: rounds thrown away.
        ended: why it ended; None while it goes on, and then the key is still secret.
        digests: (hex), [k] that of line k; the last one stands for the whole record.
        torn: bytes of an unfinished last line.
    """

    terms: Terms
    rounds: tuple[Round, ...]
    discarded: int
    ended: str | None
    digests: tuple[str, ...]
    torn: int

    @property
    def lines(self) -> int:
        return len(self.digests) - 1


def verify(folder: Path) -> Verified:
    """Check the record of a test: its chain, its order of events, its commitments.

    Raises:
        RecordError: it was changed, or is none.
    """
    file = folder / RECORD
    events, digests, torn = read_record(file)
    progress = _replayed(events, file)
    if progress.terms is None:
        raise RecordError(f"{file}: expected the terms of a test, found no line")
    return Verified(
        progress.terms,
        tuple(progress.rounds),
        progress.discarded,
        progress.ended,
        tuple(digests),
        torn,
    )


def _replayed(events: list[dict[str, Any]], file: Path) -> _Progress:
    progress = _Progress()
    for number, event in enumerate(events, 1):
        try:
            progress.take(event)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"{file}, line {number}: {error}") from None
    return progress


def _expect(name: str, expected: object, found: object) -> None:
    if expected != found:
        raise ValueError(f"{name}: expected {expected}, found {found}")
