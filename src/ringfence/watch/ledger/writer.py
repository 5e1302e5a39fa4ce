"""Appending to a ledger: records are durable before `append` returns.

Appends that arrive while the disk is busy share the next commit: one write, one fdatasync, one
signed head. So everything that was acknowledged is signed, and nothing behind the last head was
ever acknowledged.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ringfence.errors import InputError
from ringfence.watch.ledger.batch import Batch, Wish
from ringfence.watch.ledger.chain import Chain
from ringfence.watch.ledger.checkpoint import Checkpoint, note
from ringfence.watch.ledger.clock import Reading, read_clock
from ringfence.watch.ledger.record import Kind
from ringfence.watch.ledger.sinks.delivery import Delivery
from ringfence.watch.ledger.sinks.sink import Sink
from ringfence.watch.ledger.tail import NotWritten, Tail

SEGMENT_BYTES = 32 << 20
"""A commit that finds the newest segment this long begins another."""
MOST_IN_BATCH = 1024
"""Records that one head covers at most, so that nobody waits long for the first of them."""


class _Pending:
    """An append on its way: ends with `index` or with `error`."""

    __slots__ = ("error", "index", "wish")

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.index: int | None = None
        self.error: Exception | None = None


class Ledger:
    """A ledger open for appending, by any number of threads; other processes may have it too."""

    def __init__(
        self,
        path: Path,
        key: Ed25519PrivateKey,
        sinks: Sequence[Sink] = (),
        segment_bytes: int = SEGMENT_BYTES,
        clock: Callable[[], Reading] = read_clock,
    ) -> None:
        """Use `open`."""
        self._key = key
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._chain = Chain(key.public_key())
        self._tail = Tail(path)
        self._notes: list[Wish] = []
        """What the ledger has to say of itself with the next commit."""
        self._refused, self._why = 0, ""
        self._wrote = False
        self._closed = False
        self._queue: list[_Pending] = []
        self._busy = False
        self._turn = threading.Condition()
        self._delivery = Delivery(sinks, self.append) if sinks else None

    @classmethod
    def open(
        cls,
        path: Path,
        key: Ed25519PrivateKey,
        sinks: Sequence[Sink] = (),
        segment_bytes: int = SEGMENT_BYTES,
        clock: Callable[[], Reading] = read_clock,
    ) -> Ledger:
        """The ledger in the directory `path`, begun if there is none.

        What a killed writer left half-written is cut off, and a record says so. Raises InputError
        when the newest segment is not what this key signed.
        """
        ledger = cls(path, key, sinks, segment_bytes, clock)
        try:
            with ledger._tail.locked():
                ledger._catch_up()
        except BaseException:
            if ledger._delivery:
                ledger._delivery.close()
            ledger._tail.close()
            raise
        return ledger

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, kind: str, subject: str, detail: dict[str, Any] | None = None) -> int:
        """Add one record, and give back its index once it is durable.

        Raises NotWritten (the record is not in the ledger; a later append may succeed),
        InputError (the ledger was tampered with), ValueError (unknown kind, no JSON, too long).
        """
        return self.append_all([(kind, subject, detail or {})])[0]

    def append_all(self, entries: Iterable[tuple[str, str, dict[str, Any]]]) -> list[int]:
        """Add a record for each (kind, subject, detail), in order and with few commits; their
        indexes once all are durable. Raises as `append` does; some may then be in the ledger."""
        pending = [_Pending(Wish.of(Kind(kind), subject, detail))
                   for kind, subject, detail in entries]  # fmt: skip
        with self._turn:
            if self._closed:
                raise ValueError("the ledger is closed")
            self._queue += pending
        while not self._committed(pending):
            pass
        failed = next((item.error for item in pending if item.error), None)
        if failed is not None:
            raise failed
        return [item.index for item in pending if item.index is not None]

    def head(self) -> Checkpoint:
        """The last signed head; it covers every record acknowledged so far."""
        return self._chain.checkpoint()

    def note(self) -> str:
        """The same as text to keep elsewhere (checkpoint.py)."""
        return note(self._key.public_key(), self.head())

    def close(self) -> None:
        """Note the end if anything was written, send what sinks still wait for, let go."""
        if self._closed:
            return
        try:
            if self._delivery:
                self._delivery.settle()
            if self._wrote:
                self.append(Kind.LEDGER, "closed")
        finally:
            with self._turn:
                self._closed = True
            if self._delivery:
                self._delivery.close()
            self._tail.close()

    def _committed(self, wanted: list[_Pending]) -> bool:
        """Wait for one's turn or result; whoever finds nobody busy commits for all in the queue."""
        with self._turn:
            while self._busy and not _ended(wanted):
                self._turn.wait()
            if _ended(wanted):
                return True
            self._busy = True
            group, self._queue = self._queue[:MOST_IN_BATCH], self._queue[MOST_IN_BATCH:]
        try:
            self._commit(group)
        except Exception as error:
            for item in group:
                item.error = error
        except BaseException:
            for item in group:
                item.error = NotWritten("the commit was interrupted: look whether it is there")
            raise
        finally:
            with self._turn:
                self._busy = False
                self._turn.notify_all()
        return _ended(wanted)

    def _commit(self, group: list[_Pending]) -> None:
        try:
            with self._tail.locked():
                self._catch_up()
                notes = self._due_notes()
                batch = Batch(self._chain, self._key, self._clock())
                full = self._chain.number < 0 or self._tail.offset >= self._segment_bytes
                number = batch.open_segment() if full else None
                indexes = batch.add([*notes, *(item.wish for item in group)])
                self._tail.add(batch.data(), number)
                self._chain = batch.chain
        except NotWritten as error:
            self._refused, self._why = self._refused + len(group), error.what
            raise
        except InputError:
            raise
        except BaseException:
            # Interrupted who knows where: what counts is what is on the disk.
            self._chain = Chain(self._key.public_key())
            self._tail.forget()
            raise
        self._notes, self._refused, self._wrote = [], 0, True
        if self._delivery:
            self._delivery.offer(batch.records)
        for item, index in zip(group, indexes[len(notes) :], strict=True):
            item.index = index

    def _catch_up(self) -> None:
        cut = self._tail.catch_up(self._chain)
        if cut:
            self._notes.append(Wish.of(Kind.LEDGER, "cut", {
                "bytes": cut.bytes, "records": cut.records,
                "why": "behind the last signed head: a writer ended in mid-write",
            }))  # fmt: skip

    def _due_notes(self) -> list[Wish]:
        notes = list(self._notes)
        if not self._wrote:
            notes.append(Wish.of(Kind.LEDGER, "opened", {"pid": os.getpid(), "uid": os.getuid()}))
        if self._refused:
            detail = {"records": self._refused, "why": self._why}
            notes.append(Wish.of(Kind.LEDGER, "refused", detail))
        return notes


def _ended(wanted: list[_Pending]) -> bool:
    """The queue is first in, first out: the last one ends last."""
    return not wanted or wanted[-1].index is not None or wanted[-1].error is not None
