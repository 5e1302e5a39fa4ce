"""What was read and is not yet judged: between the thread that reads and the one that judges."""

from __future__ import annotations

import threading
import time
from collections import deque

from ringfence.watch.baseline.result import Report
from ringfence.watch.live.happening import Happening
from ringfence.watch.live.told import Told

MOST_WAITING = 50_000
"""Beyond it nothing is read: the kernel's own queue fills, and an overflow is told and checked."""


class Checked:
    """A full check that has ended; it `began` then (CLOCK_MONOTONIC, seconds)."""

    def __init__(self, name: str, report: Report | str, began: float) -> None:
        self.name = name
        self.report = report
        self.began = began


Entry = Happening | Told | Checked


class Queue:
    """First in, first out, between two threads."""

    def __init__(self) -> None:
        self._items: deque[Entry] = deque()
        self._turn = threading.Condition()
        self._ended = False

    def put(self, items: list[Entry]) -> None:
        """Add items; waits while there are too many already, unless it has ended."""
        with self._turn:
            while len(self._items) >= MOST_WAITING and not self._ended:
                self._turn.wait(0.5)
            self._items.extend(items)
            self._turn.notify_all()

    def take(self, most: int, patience: float) -> list[Entry]:
        """Up to `most` items; [] after `patience` seconds or at the end."""
        until = time.monotonic() + patience
        with self._turn:
            while not self._items and not self._ended:
                left = until - time.monotonic()
                if left <= 0:
                    return []
                self._turn.wait(left)
            taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self._turn.notify_all()
            return taken

    def end(self) -> None:
        """Nothing more will be put, or nobody takes any more."""
        with self._turn:
            self._ended = True
            self._turn.notify_all()

    @property
    def done(self) -> bool:
        """Ended and empty."""
        with self._turn:
            return self._ended and not self._items
