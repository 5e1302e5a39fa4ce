"""Where what is told goes: the ledger first, then the terminal, so that a line printed is a record
that nobody loses."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from ringfence.watch.ledger.tail import NotWritten
from ringfence.watch.ledger.writer import Ledger
from ringfence.watch.live.aloud import aloud
from ringfence.watch.live.printing import Printer
from ringfence.watch.live.told import Told, bounded

PAUSE = 1.0
"""Seconds between tries while a disk is full."""


class Keeper:
    """Keeps records. `show` makes a line of one; `stopping` says when a full disk is waited for
    no longer."""

    def __init__(
        self, ledger: Ledger | None, show: Callable[[Told], str], stopping: Callable[[], bool]
    ) -> None:
        self._ledger = ledger
        self._show = show
        self._stopping = stopping
        self._printer = Printer(sys.stdout, ledger is not None, stopping)
        self.kept = 0

    def keep(self, records: Sequence[Told]) -> None:
        """Keep records, in order; they are durable on return. Raises InputError when the ledger
        was tampered with, NotWritten when the disk stays full until the end; as `standing`."""
        if not records:
            return
        records = [bounded(item) for item in records]
        if self._ledger is not None:
            self._append(self._ledger, records)
        self.kept += len(records)
        self._printer.put([self._show(item) for item in records])

    def standing(self) -> None:
        """Raises InputError where standard output failed and there is no ledger."""
        self._printer.standing()

    def close(self) -> None:
        """What is not printed yet is, if its reader takes it. Raises as `standing`."""
        self._printer.close()

    def _append(self, ledger: Ledger, records: Sequence[Told]) -> None:
        complained = False
        while True:
            try:
                ledger.append_all([(item.kind, item.subject, item.detail) for item in records])
                return
            except NotWritten as error:
                if self._stopping():
                    raise
                complained = complained or aloud(f"{error.line()}; trying again each second")
                time.sleep(PAUSE)
