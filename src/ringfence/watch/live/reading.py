"""Files that are read for a decision: each once, however many wait for it, and none behind a slow
one.

A reading has a descriptor of its own: whoever waits is answered, and its descriptor closed, without
regard to how far the reading has come.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import threading
from collections.abc import Callable

import msgspec

from ringfence.watch.live.ruling import Identity, Question, Ruling

MOST_THREADS = 32
"""Files read at the same time. Only what may turn out to be allowed is read."""
MOST_READINGS = 256
MOST_WAITING = 2048
"""Questions that wait, each with a descriptor; fewer where a process may have few."""
TOO_MANY = "too many files are being read"


class Asked(msgspec.Struct, eq=False):
    """A question that waits for a reading: the event's descriptor, who asks, and until when."""

    fd: int
    thread: int
    executed: bool
    path: bytes
    by: float


class _Reading:
    """A file being read, and who waits. Whoever takes one out of `asked` answers it."""

    __slots__ = ("asked", "question")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.asked: list[Asked] = []


Key = tuple[Identity, bool]
Done = Callable[[Question, Ruling, list[Asked]], None]


class Readings:
    """Reads by `full`, in threads, and gives its decision to `done` with those who waited for it.

    `descriptors`: how many this process may have. An error in a thread is the process's: see
    `threading.excepthook`.
    """

    def __init__(self, full: Callable[[Question], Ruling], done: Done, descriptors: int) -> None:
        self._full, self._done = full, done
        self._most_waiting = min(MOST_WAITING, descriptors // 4)
        self._most_readings = min(MOST_READINGS, descriptors // 8)
        self._found: dict[Key, _Reading] = {}
        self._waiting = 0
        self._threads = self._busy = 0
        self._work: queue.SimpleQueue[tuple[Key, _Reading]] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def wanted(self, question: Question, asked: Asked | None) -> bool:
        """Read a file, for one who waits or for nobody; False where that would be too many.

        Raises OSError.
        """
        key = question.identity, question.executed
        with self._lock:
            if asked is not None and self._waiting >= self._most_waiting:
                return False
            reading = self._found.get(key)
            if reading is None:
                if len(self._found) >= self._most_readings:
                    return False
                own = fcntl.fcntl(question.fd, fcntl.F_DUPFD_CLOEXEC, 0)
                reading = _Reading(msgspec.structs.replace(question, fd=own))
                self._found[key] = reading
                self._begin(key, reading)
            if asked is not None:
                reading.asked.append(asked)
                self._waiting += 1
        return True

    def late(self, now: float, most: int) -> list[Asked]:
        """Up to `most` questions that have waited too long, to be answered by the caller; what
        they asked about is read on."""
        found: list[Asked] = []
        with self._lock:
            for reading in self._found.values():
                over = [item for item in reading.asked if item.by <= now][: most - len(found)]
                for item in over:
                    reading.asked.remove(item)
                found += over
            self._waiting -= len(found)
        return found

    def _begin(self, key: Key, reading: _Reading) -> None:
        self._work.put((key, reading))
        self._busy += 1
        if self._threads < min(self._busy, MOST_THREADS):
            # Where no thread can be had, those that are there come to it.
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._serve, daemon=True, name="reading").start()
                self._threads += 1

    def _serve(self) -> None:
        while True:
            key, reading = self._work.get()
            try:
                ruling = self._full(reading.question)
            except OSError as error:
                why = os.strerror(error.errno or 0).lower()
                ruling = Ruling(False, why, path=reading.question.place)
            os.close(reading.question.fd)
            with self._lock:
                del self._found[key]
                self._waiting -= len(reading.asked)
            self._done(reading.question, ruling, reading.asked)
            with self._lock:
                self._busy -= 1
