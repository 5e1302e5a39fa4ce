"""Whether a ledger is what its writer wrote; if not, the first broken place in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ringfence.watch.ledger.chain import CLOCK, Broken, Chain
from ringfence.watch.ledger.checkpoint import Checkpoint
from ringfence.watch.ledger.record import Head, Kind, Opening, Record


class Source(msgspec.Struct, frozen=True):
    """One segment: the number in its name, and how to read its lines (with line feeds) anew."""

    number: int
    lines: Callable[[], Iterable[bytes]]


class Verdict(msgspec.Struct, frozen=True):
    """What a verification found.

    `first` and `size`: the records from `first` up to `size` (not included) were followed; up to
    the broken place if there is one. `broken` is that place in words, None for a whole ledger.
    `notes` are things that the ledger itself tells and a reader should know: clocks that were set,
    writers that were killed, disks that were full. `head` is the last signed head of a whole one.
    """

    ledger: str
    first: int
    size: int
    root: str
    segments: int
    broken: str | None
    notes: tuple[str, ...]
    head: Checkpoint | None


def verify(
    segments: Sequence[Source],
    key: Ed25519PublicKey,
    kept: Sequence[Checkpoint] = (),
    *,
    archived: bool = False,
) -> Verdict:
    """Follow every line of `segments`, which are in order.

    `kept` are heads that were kept elsewhere, their signatures checked: the ledger must go on from
    each. `archived` allows that the first segments are not here.

    The last head signs the root over all records, and these name every line before them, so one
    good signature at the end vouches for all. Only where something is broken are all signatures
    checked, for the first broken place might be a forged one.
    """
    walk = _Walk(key, kept, every=False, archived=archived)
    found = walk.through(segments)
    if found is None:
        return walk.verdict(None)
    walk = _Walk(key, kept, every=True, archived=archived)
    return walk.verdict(walk.through(segments) or found)


class _Walk:
    """One pass over all lines."""

    def __init__(
        self, key: Ed25519PublicKey, kept: Sequence[Checkpoint], *, every: bool, archived: bool
    ) -> None:
        self.chain = Chain(key)
        self.kept: dict[int, list[Checkpoint]] = {}
        for item in kept:
            self.kept.setdefault(item.size, []).append(item)
        self.every = every
        self.archived = archived
        self.first = 0
        self.segments = 0
        self.notes: list[str] = []
        self.unsigned: list[str] = []
        """Notes of records that no head covers yet: anybody could have written those."""

    def verdict(self, broken: str | None) -> Verdict:
        chain = self.chain
        return Verdict(
            chain.ledger, self.first, chain.tree.size, chain.tree.root().hex(),
            self.segments, broken, tuple(self.notes), None if broken else chain.checkpoint(),
        )  # fmt: skip

    def through(self, segments: Sequence[Source]) -> str | None:
        """The broken place, if any."""
        try:
            for source in segments:
                self._segment(source)
            self._end()
        except Broken as error:
            return str(error)
        return None

    def _segment(self, source: Source) -> None:
        chain, due = self.chain, self.chain.number + 1
        if source.number != due and (chain.number >= 0 or not self.archived):
            raise Broken(self._missing(due, source.number))
        for data in source.lines():
            if not data.endswith(b"\n"):
                raise Broken(f"truncated at record {chain.tree.size}: a line without its end, "
                             f"after {chain.place}")  # fmt: skip
            line = chain.follow(data[:-1])
            if isinstance(line, Record):
                self._record(line)
            elif isinstance(line, Head):
                self._head()
                self.notes, self.unsigned = self.notes + self.unsigned, []
            else:
                self._opening(line, source.number)
        if chain.number != source.number:
            raise Broken(f"segment {source.number} is empty: truncated at record {chain.tree.size}")
        if chain.signed != chain.tree.size:
            raise Broken(self._unsigned())
        if chain.opened:
            raise Broken(f"segment {source.number} holds no signed record: inserted, or cut")

    def _missing(self, due: int, found: int) -> str:
        after = f" after record {self.chain.tree.size - 1}" if self.chain.tree.size else ""
        which = f"segment {due} is" if found == due + 1 else f"segments {due} to {found - 1} are"
        return f"gap between segments: {which} missing{after}"

    def _unsigned(self) -> str:
        chain = self.chain
        return (f"truncated at record {chain.tree.size}: no head over the records from "
                f"{chain.signed} on (a writer that was killed, or cut off later)")  # fmt: skip

    def _opening(self, opening: Opening, number: int) -> None:
        if opening.number != number:
            raise Broken(f"segment {number} says it is {opening.number}: renamed or altered")
        if self.segments == 0:
            self.first = opening.first
            if number:
                self.notes.append(f"begins at record {opening.first}: earlier ones are not here")
        self.segments += 1
        self._head()

    def _head(self) -> None:
        if self.every:
            self.chain.check_signature()
        self._compare()

    def _record(self, record: Record) -> None:
        self._compare()
        if record.kind == Kind.LEDGER and record.subject in (CLOCK, "cut", "refused"):
            self.unsigned.append(_told(record))

    def _compare(self) -> None:
        """With the head kept elsewhere that is over just so many records."""
        for kept in self.kept.get(self.chain.tree.size, ()):
            if kept.ledger != self.chain.ledger:
                raise Broken(f"another ledger: the head kept elsewhere is of {kept.ledger}")
            if kept.root != self.chain.tree.root().hex():
                raise Broken(f"rewritten before record {kept.size}: the head kept elsewhere over "
                             f"{kept.size} records has another root")  # fmt: skip

    def _end(self) -> None:
        chain = self.chain
        if chain.number < 0:
            raise Broken("no segment")
        chain.check_head()
        for size, heads in sorted(self.kept.items()):
            foreign = next((item.ledger for item in heads if item.ledger != chain.ledger), None)
            if foreign:
                raise Broken(f"another ledger: the head kept elsewhere is of {foreign}")
            if size > chain.tree.size:
                raise Broken(f"truncated at record {chain.tree.size}: the head kept elsewhere is "
                             f"over {size} records")  # fmt: skip
            if size < self.first:
                self.notes.append(f"the head kept elsewhere over {size} records is older than "
                                  "what is here, and was not compared")  # fmt: skip


def _told(record: Record) -> str:
    detail, where = record.detail, f"record {record.index}, {record.time}"
    if record.subject == CLOCK:
        return (f"{where}: clock set {detail.get('direction')} "
                f"from {detail.get('before')} to {detail.get('now')}")  # fmt: skip
    if record.subject == "cut":
        return (f"{where}: {detail.get('bytes')} bytes behind the last head were cut off; "
                "they were never acknowledged")  # fmt: skip
    return f"{where}: {detail.get('records')} appends were refused before: {detail.get('why')}"
