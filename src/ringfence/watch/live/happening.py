"""From the kernel's events to what happened to which path, and who did it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from ringfence.watch.baseline.entry import joined
from ringfence.watch.live import fanotify
from ringfence.watch.live.events import Event, Named
from ringfence.watch.live.marks import Marks
from ringfence.watch.live.who import Census, Who

DONE = {
    fanotify.CREATE: "create",
    fanotify.MODIFY: "write",
    fanotify.CLOSE_WRITE: "close-after-write",
    fanotify.ATTRIB: "attributes",
    fanotify.MOVED_FROM: "rename-from",
    fanotify.MOVE_SELF: "rename-from",
    fanotify.MOVED_TO: "rename-to",
    fanotify.DELETE: "delete",
}
FROM, TO, FOUND, BELOW = "rename-from", "rename-to", "found", "below"
"""`found`: it was in a folder by the time that this folder could be marked. `below`: it happened in
a folder below, whose path is too long to be told."""
MOST_HELD = 1 << 15
"""Events that wait for another one, which is in the kernel's queue already; that has 16,384."""


class Happening(msgspec.Struct, frozen=True):
    """Something that happened to the file `name` in `folder` (from the target's root).

    `other` is the path at the rename's other end, None where that is not in the target. `read` is
    when the event was read, in seconds of CLOCK_MONOTONIC.
    """

    folder: bytes
    name: bytes
    did: tuple[str, ...]
    who: Who | None = None
    other: bytes | None = None
    read: float = 0.0

    @property
    def path(self) -> bytes:
        """From the target's root, without a leading slash."""
        return joined(self.folder, self.name)


class Gatherer:
    """Understands events; marks folders that come to be. `own` are processes not to be told of."""

    def __init__(self, marks: Marks, census: Census, own: frozenset[int] = frozenset()) -> None:
        self._marks = marks
        self._census = census
        self._own = own
        self._held: dict[bytes, list[tuple[Event, Who | None, float]]] = {}
        """By the folder that was removed before they were read, and not yet by an event."""
        self._holding = 0

    def gather(self, event: Event, now: float) -> Iterator[Happening]:
        """What an event says happened. Closes its pidfd."""
        who = None
        try:
            if event.pid not in self._own:
                who = self._census.ask(event.pid, event.pidfd, now)
        finally:
            if event.pidfd is not None and event.pidfd >= 0:
                os.close(event.pidfd)
        removed = event.mask & fanotify.DELETE and event.mask & fanotify.ONDIR
        if removed and event.at is not None and event.at.name != b".":
            self._marks.bury(event.child, event.at)
        yield from self._told(event, who, now)
        if removed:
            for held in self._held.pop(event.child, ()):
                self._holding -= 1
                yield from self._told(*held)

    def _told(self, event: Event, who: Who | None, now: float) -> Iterator[Happening]:
        """What is to be told of an event; held until it is known where its folder was."""
        for named in (event.at, event.old, event.new):
            awaited = self._marks.unburied(named.folder) if named is not None else None
            if awaited is None:
                continue
            self._held.setdefault(awaited, []).append((event, who, now))
            self._holding += 1
            if self._holding > MOST_HELD:
                yield from self.release()
            return
        yield from self._known(event, who, now)

    def settle(self, now: float, *, empty: bool = True) -> Iterator[Happening]:
        """What is in folders that no event has led to; `empty`: there is none to be read."""
        for found in _found(self._marks.settle(empty=empty)):
            if self._marks.wanted(found.path):
                yield msgspec.structs.replace(found, read=now)

    def release(self) -> Iterator[Happening]:
        """What is held still, as far as its paths are known: no event says any more."""
        held, self._held, self._holding = self._held, {}, 0
        for items in held.values():
            for item in items:
                yield from self._known(*item)

    def _known(self, event: Event, who: Who | None, now: float) -> Iterator[Happening]:
        # One's own changes are followed, so that paths stay right, and not told.
        for found in self._all(event):
            if self._marks.wanted(found.path) and (who is not None or FOUND in found.did):
                yield msgspec.structs.replace(
                    found, who=None if FOUND in found.did else who, read=now
                )

    def _all(self, event: Event) -> Iterator[Happening]:
        if event.mask & fanotify.RENAME:
            yield from self._rename(event)
        did = tuple(word for bit, word in DONE.items() if event.mask & bit)
        if event.at is None or not did:
            return
        place = self._place(event.at)
        if place is None:
            yield from self._below(event.at, did)
            return
        yield Happening(*place, did)
        if event.mask & fanotify.ONDIR:
            yield from self._folder(event, event.at)

    def _folder(self, event: Event, at: Named) -> Iterator[Happening]:
        if at.name == b".":
            return
        if event.mask & fanotify.MOVED_FROM:
            self._marks.gone(event.child, at)
        # Of one and the same folder in one event, the removal is what came last.
        if event.mask & (fanotify.CREATE | fanotify.MOVED_TO) and not event.mask & fanotify.DELETE:
            yield from _found(self._marks.made(at))

    def _rename(self, event: Event) -> Iterator[Happening]:
        old = self._place(event.old) if event.old else None
        new = self._place(event.new) if event.new else None
        for end, place, did in ((event.old, old, FROM), (event.new, new, TO)):
            if end is not None and place is None:
                yield from self._below(end, (did,))
        if old is not None:
            yield Happening(*old, (FROM,), other=joined(*new) if new else None)
        if new is not None:
            yield Happening(*new, (TO,), other=joined(*old) if old else None)
        if event.mask & fanotify.ONDIR:
            yield from _found(self._marks.moved(event.child, event.old, event.new))

    def _below(self, named: Named, did: tuple[str, ...]) -> Iterator[Happening]:
        above = self._marks.above(named.folder)
        if above is not None:
            folder, _, name = above.rpartition(b"/")
            yield Happening(folder, name, (BELOW, *did))

    def _place(self, named: Named) -> tuple[bytes, bytes] | None:
        folder = self._marks.path(named.folder)
        if folder is None:
            return None
        if named.name != b".":
            return folder, named.name
        if self._marks.is_buried(named.folder):  # held open: what is at its path now is another
            return None
        above, _, name = folder.rpartition(b"/")
        return above, name


def _found(inside: Iterator[tuple[bytes, bytes]]) -> Iterator[Happening]:
    for folder, name in inside:
        yield Happening(folder, name, (FOUND,))


def merged(happenings: list[Happening]) -> list[Happening]:
    """The same with what one process did to one file, one after the other, as one.

    What a rename or a removal ends is not joined with what comes after it.
    """
    found: list[Happening] = []
    last: dict[tuple[bytes, bytes], int] = {}
    for item in happenings:
        place = item.folder, item.name
        at = last.get(place)
        former = found[at] if at is not None else None
        alone = item.other is not None or FROM in item.did or TO in item.did
        if former is None or at is None or alone or former.who != item.who or _ends(former):
            last[place] = len(found)
            found.append(item)
            continue
        did = tuple(dict.fromkeys((*former.did, *item.did)))
        found[at] = msgspec.structs.replace(former, did=did)
    return found


def _ends(item: Happening) -> bool:
    return FROM in item.did or TO in item.did or "delete" in item.did
