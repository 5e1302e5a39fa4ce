"""Marks of folders after storms of renames: a queue like the kernel's, read late and by turns."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringfence.watch.baseline.targets import Target
from ringfence.watch.baseline.walk import Start, open_root
from ringfence.watch.live import fanotify
from ringfence.watch.live.events import Event, Named
from ringfence.watch.live.handles import key_of
from ringfence.watch.live.happening import FOUND, Gatherer
from ringfence.watch.live.marks import Marks
from ringfence.watch.live.who import Census

NAMES = (b"a", b"b", b"c", b"ign", b"x", b"y", b"z", b"ig1", b"ig2", b"p", b"q")
RENAME_EXCHANGE = 2

_libc = ctypes.CDLL(None, use_errno=True)


def ignored(path: bytes) -> bool:
    """What `/ign/**` and `/b/ig*` ignore."""
    return path.startswith((b"ign/", b"b/ig"))


class Rules:
    """A judge with these rules; nothing is mounted."""

    mounts: frozenset[bytes] = frozenset()

    def ignored(self, folder: bytes, name: bytes) -> bool:
        return ignored(folder + b"/" + name if folder else name)


class Kernel:
    """Does what is asked in a folder, and queues the events of it that its marks ask for."""

    def __init__(self, root: Path) -> None:
        self.root = os.fsencode(root)
        self.marked: set[bytes] = set()
        self.queue: list[Event] = []
        self.meanwhile: dict[bytes, Callable[[], None]] = {}
        """What others do at the moment when a folder is marked."""

    def mark(self, flags: int, handle: int, mask: int) -> None:
        """As a fanotify group has it."""
        key = key_of(handle)
        self.marked.add(key)
        self.meanwhile.pop(key, lambda: None)()

    def key(self, path: bytes) -> bytes:
        handle = os.open(os.path.join(self.root, path), os.O_PATH | os.O_NOFOLLOW)
        try:
            return key_of(handle)
        finally:
            os.close(handle)

    def at(self, path: bytes) -> Named | None:
        """A place, None where its folder has no mark."""
        folder, _, name = path.rpartition(b"/")
        key = self.key(folder)
        return Named(key, name) if key in self.marked else None

    def make(self, path: bytes) -> None:
        os.mkdir(os.path.join(self.root, path))
        self._tell(fanotify.CREATE, self.key(path), at=self.at(path))

    def remove(self, path: bytes) -> None:
        key, at = self.key(path), self.at(path)
        os.rmdir(os.path.join(self.root, path))
        self.marked.discard(key)
        self._tell(fanotify.DELETE, key, at=at)

    def move(self, old: bytes, new: bytes, flags: int = 0) -> None:
        if old == new:
            return
        key, one, other = self.key(old), self.at(old), self.at(new)
        there = self.key(new) if os.path.lexists(os.path.join(self.root, new)) else b""
        source, goal = (os.path.join(self.root, path) for path in (old, new))
        if _libc.renameat2(-100, source, -100, goal, flags):
            raise OSError(ctypes.get_errno(), "renameat2")
        self._tell(fanotify.RENAME, key, old=one, new=other)
        if flags:
            self._tell(fanotify.RENAME, there, old=other, new=one)
        else:
            self.marked.discard(there)  # an empty folder was replaced

    def _tell(self, what: int, child: bytes, at: Named | None = None,
              old: Named | None = None, new: Named | None = None) -> None:  # fmt: skip
        event = Event(what | fanotify.ONDIR, -1, os.getpid(), None, child, at, old, new)
        if (at or old or new) and event not in self.queue:  # the kernel merges those that are alike
            self.queue.append(event)

    def folders(self) -> list[bytes]:
        return [
            os.path.relpath(folder, self.root).strip(b".") for folder, _, _ in os.walk(self.root)
        ]


class Watched:
    """A kernel, marks on its folder, and what the events said that were read."""

    def __init__(self, place: Path) -> None:
        for path in ("a/x", "b/y", "c", "ign"):
            (place / path).mkdir(parents=True)
        self.kernel = Kernel(place)
        self.root = open_root(place)
        self.marks = Marks(
            self.kernel,  # type: ignore[arg-type]
            Target("tree", str(place), place), Start(b"", self.root), Rules(),  # type: ignore[arg-type]
        )  # fmt: skip
        self.gatherer = Gatherer(self.marks, Census())
        self.found: set[bytes] = set()

    def read(self, number: int) -> None:
        """That many events."""
        events, self.kernel.queue = self.kernel.queue[:number], self.kernel.queue[number:]
        for event in events:
            for item in self.gatherer.gather(event, 0.0):
                self.found |= {item.path} if FOUND in item.did else set()

    def quiet(self) -> None:
        """Read all, until there is nothing to do."""
        while self.kernel.queue:
            self.read(300)
        while self.marks.unsettled:
            self.found |= {item.path for item in self.gatherer.settle(0.0)}

    def unwatched(self) -> list[bytes]:
        """Folders that are not ignored and have no mark, or another path than theirs."""
        return [
            path
            for path in self.kernel.folders()
            if not ignored(path)
            and (
                (key := self.kernel.key(path)) not in self.kernel.marked
                or self.marks.path(key) != path
            )
        ]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A small tree that is watched."""
    (tmp_path / "t").mkdir()
    made = Watched(tmp_path / "t")
    yield made
    os.close(made.root)


def test_a_folder_that_is_owed_a_mark_may_be_met_below_another(watched: Watched) -> None:
    kernel = watched.kernel
    kernel.make(b"c/q")
    kernel.make(b"a/x/n")
    kernel.move(b"b", b"d")
    kernel.move(b"c/q", b"r")
    kernel.move(b"a/x/n", b"s")
    watched.read(2)
    kernel.move(b"r", b"c/q")
    kernel.move(b"a/x", b"c/q/x")
    kernel.move(b"s", b"c/q/x/n")
    watched.read(1)
    watched.quiet()
    assert watched.marks.owed == 0
    assert watched.unwatched() == []
    assert {b"c/q/x", b"c/q/x/n"} <= watched.found


def storm(watched: Watched, seed: int, number: int) -> None:
    """Folders are made, renamed, exchanged and removed at random, and some events read."""
    chance, kernel = random.Random(seed), watched.kernel
    for _ in range(number):
        folders = kernel.folders()
        one, other = chance.choice(folders), chance.choice(folders)
        into = os.path.join(other, chance.choice(NAMES))
        what = chance.random()
        with contextlib.suppress(OSError):
            if what < 0.35:
                kernel.make(into)
            elif what < 0.7 and one:
                kernel.move(one, into)
            elif what < 0.8 and one and other:
                kernel.move(one, other, RENAME_EXCHANGE)
            elif what < 0.87 and one:
                kernel.remove(one)
        if what > 0.9:
            watched.read(chance.randrange(1, 40))
        elif what > 0.89:
            watched.quiet()


@pytest.mark.parametrize("seed", [2, 5, 10, 13, 35, 46])
def test_no_folder_is_without_a_mark_after_a_storm(watched: Watched, seed: int) -> None:
    storm(watched, seed, 400)
    watched.quiet()
    assert watched.unwatched() == []
    assert not watched.marks.unsettled


def test_renames_that_were_told_as_one_leave_the_folder_where_it_is(watched: Watched) -> None:
    watched.quiet()
    for old, new in ((b"a", b"e"), (b"e", b"a"), (b"a", b"e")):
        watched.kernel.move(old, new)
    assert len(watched.kernel.queue) == 2
    watched.quiet()
    assert watched.unwatched() == []
    assert watched.marks.path(watched.kernel.key(b"e/x")) == b"e/x"
    assert {b"e", b"e/x"} <= watched.found  # what happened in it was told of another path


def test_a_folder_that_is_where_its_event_said_is_not_walked(watched: Watched) -> None:
    watched.quiet()
    watched.kernel.move(b"a", b"e")
    watched.quiet()
    assert watched.unwatched() == []
    assert watched.found == set()


def test_what_came_to_be_in_a_folder_while_it_had_no_path_is_marked(watched: Watched) -> None:
    watched.quiet()
    kernel = watched.kernel
    kernel.move(b"a", b"ign/a")
    watched.quiet()
    kernel.make(b"ign/gone")
    kernel.move(b"ign/a", b"ign/gone/a")  # from now on neither event nor mark says where it is
    watched.quiet()
    kernel.make(b"ign/gone/a/x/new")
    watched.quiet()
    assert kernel.key(b"ign/gone/a/x/new") not in kernel.marked
    kernel.move(b"ign/gone/a/x", b"c/x")
    watched.quiet()
    assert watched.unwatched() == []
    assert b"c/x/new" in watched.found


def test_a_queue_that_is_never_empty_keeps_no_folder_unmarked(watched: Watched) -> None:
    watched.quiet()
    kernel = watched.kernel
    for old, new in ((b"a", b"e"), (b"e", b"a"), (b"a", b"e")):
        kernel.move(old, new)
    watched.read(2)
    kernel.make(b"c/more")
    assert [*watched.gatherer.settle(0.0, empty=False)]
    assert watched.unwatched() == [b"c/more"]
    assert watched.marks.unsettled
    watched.read(1)
    assert [*watched.gatherer.settle(0.0, empty=False)] == []
    assert watched.unwatched() == []


def test_a_folder_whose_path_leads_to_another_while_it_is_walked_is_marked(
    watched: Watched,
) -> None:
    watched.quiet()
    kernel = watched.kernel
    kernel.make(b"c/q")
    kernel.make(b"c/q/r")

    def replace() -> None:
        kernel.move(b"c/q", b"z")
        kernel.make(b"c/q")
        kernel.make(b"c/q/r")

    kernel.meanwhile[kernel.key(b"c/q")] = replace
    watched.read(1)
    assert kernel.key(b"z/r") not in kernel.marked
    watched.quiet()
    assert watched.unwatched() == []
