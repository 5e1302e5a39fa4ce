"""What one commit adds: records chained to the ledger's end, then a signed head. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ringfence.watch.ledger.chain import CLOCK, Chain
from ringfence.watch.ledger.checkpoint import sign
from ringfence.watch.ledger.clock import Reading, jump, parsed, shown
from ringfence.watch.ledger.record import (
    MOST_LINE,
    START,
    VERSION,
    Kind,
    Opening,
    Record,
    encode,
    printable,
)
from ringfence.watch.ledger.tree import EMPTY

FRAME = 512
"""Bytes of a line that are neither subject nor detail, at most."""
MOST_WISH = MOST_LINE - FRAME
"""Bytes of a subject with its detail (`size_of`)."""


class Wish(msgspec.Struct, frozen=True):
    """A record before it has a place and a time."""

    kind: Kind
    subject: str
    detail: dict[str, Any]

    @classmethod
    def of(cls, kind: Kind, subject: str, detail: dict[str, Any]) -> Wish:
        """Raises ValueError when it can be no line of a ledger."""
        if not isinstance(detail, dict):
            raise ValueError(f"detail is {type(detail).__name__}, not a dict")
        try:
            wish = cls(kind, *printable(subject, detail))
            size = len(msgspec.json.encode(wish))
        except (TypeError, OverflowError, RecursionError, UnicodeEncodeError) as error:
            raise ValueError(f"not to be written as JSON: {error}") from None
        if size > MOST_WISH:
            raise ValueError(f"{size} bytes are too many: at most {MOST_WISH}")
        # A copy: the caller may go on with the dict while this one waits.
        return msgspec.json.decode(msgspec.json.encode(wish), type=cls)


def size_of(subject: str, detail: dict[str, Any]) -> int:
    """Bytes of a record's subject and detail as the ledger writes them."""
    return len(msgspec.json.encode(Wish(Kind.LEDGER, *printable(subject, detail))))


class Batch:
    """Lines to add in one write."""

    def __init__(self, chain: Chain, key: Ed25519PrivateKey, now: Reading) -> None:
        """Begins where `chain` ends, and leaves that as it is."""
        self.chain = chain.copy()
        self.records: list[Record] = []
        self._key = key
        self._now = now
        self._lines: list[bytes] = []

    def open_segment(self) -> int:
        """Put the opening of a new segment first; its number."""
        chain, key = self.chain, self._key
        ledger = chain.ledger or secrets.token_hex(16)
        opening = Opening(
            v=VERSION, ledger=ledger, key=key.public_key().public_bytes_raw().hex(),
            number=chain.number + 1, first=chain.tree.size,
            peaks=[peak.hex() for peak in chain.tree.peaks],
            head=chain.head or sign(key, ledger, 0, EMPTY, START), prev=chain.prev,
        )  # fmt: skip
        self._line(encode(opening))
        return opening.number

    def add(self, wishes: Iterable[Wish]) -> list[int]:
        """Add a record for each; their indexes. One more comes first if the clock was set."""
        note = self._clock_note()
        if note:
            self._add(note)
        return [self._add(wish) for wish in wishes]

    def data(self) -> bytes:
        """All lines, ended by a head over them. Once."""
        chain = self.chain
        head = sign(self._key, chain.ledger, chain.tree.size, chain.tree.root(), chain.prev)
        self._line(encode(head))
        return b"\n".join([*self._lines, b""])

    def _clock_note(self) -> Wish | None:
        last = self.chain.record
        if last is None:
            return None
        moved = jump(Reading(parsed(last.time), last.up, last.boot), self._now)
        if not moved:
            return None
        detail = {
            "before": last.time,
            "now": shown(self._now.wall),
            "direction": "back" if moved < 0 else "forward",
            "microseconds": abs(moved),
        }
        return Wish(Kind.LEDGER, CLOCK, detail)

    def _add(self, wish: Wish) -> int:
        now, index = self._now, self.chain.tree.size
        record = Record(VERSION, index, shown(now.wall), now.up, now.boot,
                        wish.kind, wish.subject, wish.detail, self.chain.prev)  # fmt: skip
        self._line(encode(record))
        self.records.append(record)
        return index

    def _line(self, data: bytes) -> None:
        self.chain.follow(data)
        self._lines.append(data)
