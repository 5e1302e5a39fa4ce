"""Questions of threads that do not sleep yet: see `loading`.

Anybody can keep a thread from sleeping: by threads that take its processor, by a policy that gives
it none. So nobody waits for one; its question is kept here, and it is looked at now and then.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ringfence.watch.live.loading import asleep
from ringfence.watch.live.ruling import Question

MOST = 512
"""Questions, each with a descriptor; fewer where a process may have few."""
PAUSE = 0.00005
"""Seconds until a thread is looked at again for the first time, and from then on at least."""
RARER = 0.25
"""Of its age: the wait until the next look, so a thread is looked at some 40 times in a second."""


class Waiting(msgspec.Struct, eq=False):
    """A question: the event's descriptor, who asks, about what, since when, and when it is looked
    at next, in seconds of the monotonic clock."""

    fd: int
    thread: int
    executed: bool
    path: bytes
    since: float
    next: float


class Awake:
    """Keeps questions, up to `MOST` and an eighth of `descriptors`, until their threads sleep, and
    for at most `patience` seconds. `sleeps` tells of a thread."""

    def __init__(
        self, patience: float, descriptors: int, sleeps: Callable[[int], bool] = asleep
    ) -> None:
        self._patience, self._sleeps = patience, sleeps
        self._most = min(MOST, descriptors // 8)
        self._kept: list[Waiting] = []

    def __bool__(self) -> bool:
        return bool(self._kept)

    def keep(self, asked: Question, since: float) -> None:
        """Keep a question that was first asked at `since`, to be looked at soon."""
        item = Waiting(asked.fd, asked.thread, asked.executed, asked.place, since, since + PAUSE)
        self._kept.append(item)

    def asleep(self, now: float) -> list[Waiting]:
        """Those whose threads have come to sleep; they are kept no longer."""
        found: list[Waiting] = []
        for item in self._kept:
            if item.next <= now:
                item.next = now + max(PAUSE, (now - item.since) * RARER)
                if self._sleeps(item.thread):
                    found.append(item)
        self._forget(found)
        return found

    def late(self, now: float, most: int) -> list[Waiting]:
        """Up to `most` that have waited too long, and the oldest where too many wait: whoever has
        many threads that do not sleep takes the place of others for a moment only. They are kept
        no longer."""
        oldest = sorted(self._kept, key=lambda item: item.since)
        over = len(oldest) - self._most
        found = [
            item for place, item in enumerate(oldest)
            if place < over or now - item.since >= self._patience
        ][:most]  # fmt: skip
        self._forget(found)
        return found

    def _forget(self, found: list[Waiting]) -> None:
        if found:
            gone = {item.fd for item in found}
            self._kept = [item for item in self._kept if item.fd not in gone]
