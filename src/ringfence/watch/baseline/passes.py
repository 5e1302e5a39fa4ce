"""One pass over a target: what was seen, lot by lot in a baseline's order, live or archived."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from ringfence.watch.baseline.compare import Comparison
from ringfence.watch.baseline.entry import Group, joined
from ringfence.watch.baseline.merging import Merge
from ringfence.watch.baseline.pool import Pool
from ringfence.watch.baseline.rest import Clock, clock
from ringfence.watch.baseline.rules import Mode, Rules
from ringfence.watch.baseline.store import Frame, Packer
from ringfence.watch.baseline.targets import Target
from ringfence.watch.baseline.units import Unit, aligned, batches
from ringfence.watch.baseline.walk import Walk, open_root
from ringfence.watch.baseline.work import Seen, Task, Worker

if TYPE_CHECKING:
    from ringfence.watch.baseline.sorting import Sorter

MOST_WORKERS = 32
_seen = msgspec.msgpack.Decoder(Seen)


class Pass(msgspec.Struct, frozen=True):
    """What a pass does: `frames` and `comparison` None where there is nothing to compare with.

    `keep`: make frames of what is seen. `mixed`: recorded digests are of several algorithms.
    `skip`: paths of this run's own files.
    """

    algorithm: str
    rules: Rules
    frames: Iterable[Frame] | None = None
    comparison: Comparison | None = None
    keep: bool = True
    quick: bool = False
    mixed: bool = False
    skip: frozenset[bytes] = frozenset()


@contextlib.contextmanager
def looking(target: Target, what: Pass) -> Iterator[Iterator[Seen]]:
    """A pass over `target`: an iterator of what was seen, in order."""
    if target.live:
        with _live(target, what) as seen:
            yield seen
        return
    from ringfence.watch.baseline.sorting import Sorter  # SQLite, for archives alone

    with contextlib.closing(Sorter()) as sorter:
        yield _archived(target, what, sorter)


@contextlib.contextmanager
def _live(target: Target, what: Pass) -> Iterator[Iterator[Seen]]:
    root = open_root(target.root)
    mounts, now = target.mounts(), clock()
    walk = Walk(root, what.rules, target.only, mounts, what.skip)
    task = Task(
        tuple(walk.starts), what.rules, what.algorithm, mounts, what.comparison, what.keep,
        what.quick, what.mixed, target.owners(), now, target.own_clock(),
    )  # fmt: skip
    pool = Pool(workers(), lambda: Worker(task))
    try:
        yield _from_pool(pool, walk, what, target, now)
    finally:
        pool.close()
        walk.close()
        os.close(root)


def workers() -> int:
    """One process for each processor that this one may use."""
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


def _from_pool(pool: Pool, walk: Walk, what: Pass, target: Target, began: Clock) -> Iterator[Seen]:
    listings = walk.listings()
    if what.frames is None:
        units: Iterator[Unit] = (Unit(batch) for batch in batches(listings))
    else:
        units = aligned(listings, what.frames)
    set_back = False
    for result in pool.run(unit.packed() for unit in units):
        yield _seen.decode(result)
        set_back = set_back or began.set_back()
    unseen = list(walk.unseen)
    if target.mounts() != walk.mounts:
        unseen.append((b"", "mounts were made or removed meanwhile: run it again"))
    if set_back:
        unseen.append((b"", "the clock was set back meanwhile: run it again"))
    yield Seen(frames=[], changes=[], unseen=unseen)


def _archived(target: Target, what: Pass, sorter: Sorter) -> Iterator[Seen]:
    from ringfence.watch.baseline.archive import Archive

    image = target.kind == "image"
    archive = Archive(sorter, what.algorithm, what.rules, image=image)
    archive.lay(target.layers())
    yield Seen(
        frames=[], changes=[], unseen=archive.unseen, size=archive.bytes, files=archive.files
    )
    merge = Merge(what.frames or (), what.comparison, what.rules)
    packer = Packer()
    for group in kept(sorter.groups(), what.rules, target.only):
        frames = list(packer.frames([group])) if what.keep else []
        yield Seen(frames=frames, changes=merge.group(*group), entries=len(group[1]))
    yield Seen(frames=[], changes=merge.end())


def kept(groups: Iterable[Group], rules: Rules, only: Iterable[bytes]) -> Iterator[Group]:
    """What the rules and the selection keep of groups in a baseline's order."""
    selected = tuple(path.strip(b"/") for path in only)
    for folder, entries in groups:
        of_folder = rules.of_folder(folder)
        left = [
            entry for entry in entries
            if of_folder.of(entry.name, entry.kind).mode not in (Mode.IGNORED, Mode.UNLISTED)
            and _selected(joined(folder, entry.name), selected)
        ]  # fmt: skip
        if left:
            yield folder, left


def _selected(path: bytes, only: tuple[bytes, ...]) -> bool:
    return not only or any(path == item or path.startswith(item + b"/") for item in only if item)
