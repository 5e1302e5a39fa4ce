"""What is known of processes by their numbers: of a bounded many, and who lives on is kept."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from ringfence.collect.process import procfs

Kin = TypeVar("Kin")
MOST_KNOWN = 16_384
ROSTER_EVERY = 1.0
"""Seconds between two looks at all processes, where the kernel does not tell of new ones."""


class Roster(Generic[Kin]):
    """Process -> what is known of it. `lives` tells whether what was known under a number is there
    still: those that live on are kept, for they are the ones that began the others."""

    def __init__(self, lives: Callable[[int, Kin], bool]) -> None:
        self._lives = lives
        self._known: OrderedDict[int, Kin] = OrderedDict()
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self._known)

    def get(self, pid: int) -> Kin | None:
        """What is known of it; None for nothing."""
        return self._known.get(pid)

    def put(self, pid: int, kin: Kin) -> None:
        """Know this of it from now on."""
        self._known[pid] = kin
        self._known.move_to_end(pid)
        for _ in range(8):
            if len(self._known) <= MOST_KNOWN:
                return
            oldest, former = self._known.popitem(last=False)
            if self._lives(oldest, former):
                self._known[oldest] = former
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def clear(self) -> None:
        """Know of none any more."""
        self._known.clear()

    def forget_ended(self) -> None:
        """Know of those alone that live on."""
        for pid, kin in [*self._known.items()]:
            if not self._lives(pid, kin):
                del self._known[pid]

    def all_now(self) -> Iterator[int]:
        """All processes there are, which are looked at by that."""
        self._looked = time.monotonic()
        return iter(procfs.pids())

    def due(self) -> bool:
        """Whether it is long since all were looked at."""
        return time.monotonic() - self._looked >= ROSTER_EVERY
