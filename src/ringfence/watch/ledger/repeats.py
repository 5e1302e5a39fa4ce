"""Denials that repeat themselves: the first is told at once, further ones are counted, and
the count is told once in a window. Pure. Times are of CLOCK_MONOTONIC, in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ringfence.watch.ledger.audit import Denial

WINDOW = 5.0
"""Seconds after which what was counted is told."""
MOST_KINDS = 256
"""Different denials that are told in one window; further ones are only counted: a workload that
makes them up must not fill the disk."""
_SAME = ("call", "action", "arch", "operation", "name", "path", "rights", "tcontext", "tclass",
         "blockers", "domain", "denied_mask", "capability", "profile")  # fmt: skip
"""Fields that make two denials of one process two different ones."""


class _Counted(msgspec.Struct):
    """The `last` of several denials that are the same; `more` since the first was told."""

    last: Denial
    unsure: str
    until: float
    more: int = 0


class Tally:
    """A count that is told at the end of a window, which its first begins."""

    def __init__(self) -> None:
        self._count = 0
        self._until = 0.0

    def add(self, count: int, now: float) -> None:
        """So many more."""
        if not self._count:
            self._until = now + WINDOW
        self._count += count

    def due(self, now: float) -> int:
        """How many there were in a window that is over, 0 while it is not."""
        if self._until > now:
            return 0
        found, self._count = self._count, 0
        return found


class Repeats:
    """What was told lately; `beyond` are the different ones that were too many to be told."""

    def __init__(self) -> None:
        self._told: dict[tuple[Any, ...], _Counted] = {}
        self.beyond = Tally()

    def new(self, denial: Denial, unsure: str, now: float) -> bool:
        """Whether it is to be told now; otherwise it is counted."""
        key = _key(denial, unsure)
        former = self._told.get(key)
        if former is not None:
            # The same record twice is no second denial.
            if (former.last.time, former.last.serial) != (denial.time, denial.serial):
                former.last, former.more = denial, former.more + 1
            return False
        if len(self._told) >= MOST_KINDS:
            self.beyond.add(1, now)
            return False
        self._told[key] = _Counted(denial, unsure, now + WINDOW)
        return True

    def due(self, now: float) -> Iterator[tuple[Denial, str, int]]:
        """Each that was repeated in its window, now over: the last one, and how many more."""
        for key, item in [*self._told.items()]:
            if item.until > now:
                continue
            if item.more:
                yield item.last, item.unsure, item.more
                item.more, item.until = 0, now + WINDOW
            else:
                del self._told[key]


def _key(denial: Denial, unsure: str) -> tuple[Any, ...]:
    fields = (denial.detail.get(name) for name in _SAME)
    return (denial.by, denial.pid, denial.program, denial.enforced, unsure, *fields)
