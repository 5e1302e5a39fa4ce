"""Follows the lines of a ledger one by one, and says in words where they stop to fit. Pure.

The order of the checks of one line: it is a line; it says what the line before it was; it is the
one that is due; what it claims (root, signature, peaks) is so.
"""

from __future__ import annotations

import re

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ringfence.watch.ledger.checkpoint import Checkpoint, NotSigned, check
from ringfence.watch.ledger.record import (
    START,
    VERSION,
    Head,
    Kind,
    Line,
    NotALine,
    Opening,
    Record,
    decode,
    encode,
)
from ringfence.watch.ledger.tree import Frontier, leaf_hash

CLOCK = "clock"
"""The subject of a record that says that the wall clock was set."""

_NAME = re.compile(r"[0-9a-f]{32}")


class Broken(Exception):
    """The first place where a ledger is not what its writer wrote, in words."""


class Chain:
    """Where a ledger stands after the lines followed so far."""

    __slots__ = ("head", "key", "ledger", "number", "opened", "place", "prev", "record", "tree")

    def __init__(self, key: Ed25519PublicKey) -> None:
        """Before the first line. `key` must have signed all heads."""
        self.key = key
        self.ledger = ""
        self.number = -1
        """Of the segment that was opened last."""
        self.opened = False
        """Whether no head followed its opening yet, which no writer leaves so."""
        self.tree = Frontier()
        self.prev = START
        self.record: Record | None = None
        """The last one, of the segments followed."""
        self.head: Head | None = None
        self.place = "the beginning"
        """The last line, in words."""

    def copy(self) -> Chain:
        """The same place, to go on from separately."""
        other = Chain(self.key)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.tree = self.tree.copy()
        return other

    @property
    def signed(self) -> int:
        """How many records the last head covers."""
        return self.head.size if self.head else 0

    def checkpoint(self) -> Checkpoint:
        """The last head, with the ledger's name. Raises Broken before the first line."""
        head = self.head  # once: another thread may be moving this chain on
        if head is None:
            raise Broken("no head yet")
        return Checkpoint(self.ledger, head.size, head.root, head.signature)

    def check_head(self) -> None:
        """Check the signature of the last head, and that the last segment has one of its own: an
        opening is covered by nothing else. Raises Broken."""
        if self.opened:
            raise Broken(f"segment {self.number} holds no signed record: no writer leaves it so")
        self.check_signature()

    def check_signature(self) -> None:
        """Check the signature of the last head, which may be that in an opening. Raises Broken."""
        try:
            check(self.key, self.checkpoint())
        except NotSigned as error:
            raise Broken(str(error)) from None

    def follow(self, data: bytes) -> Line:
        """The next line, without its line feed. Raises Broken, and is then where it was."""
        try:
            line = decode(data)
        except NotALine:
            raise Broken(f"altered after {self.place}: no line of a ledger") from None
        if isinstance(line, Record):
            self._record(line, data)
        elif isinstance(line, Head):
            self._head(line, data)
        else:
            self._opening(line, data)
        return line

    def _record(self, record: Record, data: bytes) -> None:
        due = self.tree.size
        if self.number < 0:
            raise Broken("the opening of the segment is missing")
        if record.prev != self.prev:
            raise Broken(self._wrong_order(record.index, due))
        if record.index != due or record.v != VERSION:
            raise Broken(f"record {due} altered: it says it is {record.index}, v {record.v}")
        last = self.record
        if last and record.time < last.time and not _tells_of_clock(record):
            raise Broken(
                f"clock jumped back at record {due} from {last.time} to {record.time}, "
                "which the ledger does not mention"
            )
        self.tree.push(self._next(data, f"record {due}"))
        self.record = record

    def _wrong_order(self, index: int, due: int) -> str:
        if index > due:
            return f"records {due} to {index - 1} missing, or record {index} moved forward"
        if index < due:
            return f"record {index} again where record {due} is due: repeated or moved back"
        return f"{self.place} altered, or a line after it removed: record {index} does not follow"

    def _head(self, head: Head, data: bytes) -> None:
        if self.number < 0:
            raise Broken("the opening of the segment is missing")
        if head.size != self.tree.size:
            raise Broken(f"head over {head.size} records after {self.tree.size}: moved or altered")
        if head.size == self.signed:
            raise Broken(f"another head over {head.size} records: repeated")
        if head.prev != self.prev:
            raise Broken(f"{self.place} altered, or a line after it removed or repeated")
        if head.root != self.tree.root().hex():
            raise Broken(f"head over {head.size} records altered: another root")
        self._canonical(head, data)
        self._next(data, f"the head over {head.size} records")
        self.head, self.opened = head, False

    def _opening(self, opening: Opening, data: bytes) -> None:
        """The first one is believed where it begins, if the heads that follow prove it."""
        number = opening.number
        if self.number >= 0 and number != self.number + 1:
            raise Broken(f"gap between segments {self.number} and {number}")
        name = f"opening of segment {number}"
        if opening.key != self.key.public_bytes_raw().hex():
            raise Broken(f"{name}: another key ({opening.key})")
        if self.number >= 0 and (opening.ledger != self.ledger or opening.head != self.head):
            raise Broken(f"{name} altered: not the head of segment {self.number}")
        if self.number >= 0 and opening.prev != self.prev:
            raise Broken(f"{self.place} altered, or a line after it removed")
        tree = _tree(opening, name)
        if self.number >= 0 and tree.size != self.tree.size:
            raise Broken(f"{name} altered: it begins at record {tree.size}")
        self._canonical(opening, data)
        self.ledger, self.number, self.tree, self.head = opening.ledger, number, tree, opening.head
        self.opened = True
        self._next(data, f"the {name}")

    def _canonical(self, line: Head | Opening, data: bytes) -> None:
        """What the next line does not cover, at the end of a file, has just one spelling."""
        if encode(line) != data:
            raise Broken(f"altered after {self.place}: not as it was written")

    def _next(self, data: bytes, place: str) -> bytes:
        leaf = leaf_hash(data)
        self.prev, self.place = leaf.hex(), place
        return leaf


def _tree(opening: Opening, name: str) -> Frontier:
    if opening.number < 0 or opening.first < 0:
        raise Broken(f"{name} altered: it begins at record {opening.first}")
    try:
        tree = Frontier(opening.first, [bytes.fromhex(peak) for peak in opening.peaks])
    except ValueError:
        raise Broken(f"{name} altered: its peaks do not fit") from None
    if opening.number == 0 and (opening.first, opening.prev) != (0, START):
        raise Broken(f"{name} altered: something came before it")
    if not _NAME.fullmatch(opening.ledger):
        raise Broken(f"{name} altered: no name of a ledger")
    if opening.v != VERSION or opening.head.size != tree.size:
        raise Broken(f"{name} altered: its head is over {opening.head.size} records")
    if opening.head.root != tree.root().hex() or [p.hex() for p in tree.peaks] != opening.peaks:
        raise Broken(f"{name} altered: its peaks have another root")
    return tree


def _tells_of_clock(record: Record) -> bool:
    return record.kind == Kind.LEDGER and record.subject == CLOCK
