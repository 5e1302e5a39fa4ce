"""`ringfence watch check`: a target beside its sealed baseline."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ringfence.errors import UsageError
from ringfence.watch.baseline.compare import BY_CHOICE, Change, Comparison
from ringfence.watch.baseline.items import item_of, shown
from ringfence.watch.baseline.making import rules_of
from ringfence.watch.baseline.passes import Pass, looking
from ringfence.watch.baseline.provided import Provided, provided
from ringfence.watch.baseline.result import Checked, Item, Report, Subject, Unseen
from ringfence.watch.baseline.seal import Signer
from ringfence.watch.baseline.store import Header, Sealed, Totals
from ringfence.watch.baseline.targets import Target
from ringfence.watch.baseline.work import Seen
from ringfence.watch.baseline.writing import Writer

MOST_UNSEEN = 1000
"""Unseen paths that a report names."""

BY_STATUS = (
    "QUICK misses what is written through a shared mapping that was there when the baseline was "
    "made, or by whoever sets the clock or writes to the disk: only a full check finds that"
)


class _Found:
    """What a check has found so far."""

    def __init__(self, algorithm: str, provided: Provided | None) -> None:
        self.algorithm = algorithm
        self.provided = provided
        self.added: list[Item] = []
        self.removed: list[Item] = []
        self.changed: list[Item] = []
        self.unseen: list[Unseen] = []
        self.entries = self.files = self.size = self.taken = 0

    def take(self, seen: Seen) -> None:
        for change in seen.changes:
            if self.provided is not None and self.provided.has(change):
                continue
            self._list(change).append(item_of(change, self.algorithm))
        for path, why in seen.unseen[: MOST_UNSEEN - len(self.unseen)]:
            text, raw = shown(b"/" + path)
            self.unseen.append(Unseen(text, why, raw))
        self.entries += seen.entries
        self.files += seen.files
        self.size += seen.size
        self.taken += seen.taken

    def _list(self, change: Change) -> list[Item]:
        if change.old is None:
            return self.added
        return self.removed if change.new is None else self.changed


def check(
    target: Target,
    baseline: Path,
    public: bytes,
    *,
    quick: bool = False,
    update: Signer | None = None,
) -> Report:
    """What differs between `target` and `baseline`, which the key `public` must have sealed.

    With `update`, a baseline of what this very pass saw takes its place where something differs.
    Raises InputError when the baseline is not to be trusted or the target cannot be read.
    """
    with contextlib.closing(Sealed(baseline, public)) as sealed:
        header = sealed.header
        target = _selected(target, header)
        if header.mixed and not target.live:
            raise UsageError("the baseline has digests of several algorithms, an archive of one",
                             remedy="make a baseline of the archive")  # fmt: skip
        blind = frozenset(header.blind) | frozenset(target.blind)
        found = _Found(header.algorithm, provided(target, header))
        with _writer(baseline, header, update) as writer:
            what = Pass(
                header.algorithm, rules_of(header), sealed.frames(),
                Comparison(header.attributes, blind, partial=not target.live),
                keep=writer is not None, quick=quick and target.live, mixed=header.mixed,
                skip=_own(target, writer, baseline),
            )  # fmt: skip
            with looking(target, what) as lots:
                for seen in lots:
                    found.take(seen)
                    if writer is not None:
                        writer.add_all(seen.frames)
            report = _report(target, baseline, sealed, found, blind, quick=what.quick)
            if writer is not None and update is not None and not report.same:
                writer.seal(Totals(found.entries, found.size), update)
                report = msgspec.structs.replace(report, updated=True)
    return report


def _selected(target: Target, header: Header) -> Target:
    """The target with the selection of the baseline. Raises UsageError when it states another."""
    stated = tuple(path.strip(b"/") for path in target.only)
    sealed = tuple(path.strip(b"/") for path in header.only)
    if stated and target.name != "host":
        same = set(stated) == set(sealed)
    else:
        same = not _inside_of_host(target, header, sealed)
    if same:
        return msgspec.structs.replace(target, only=header.only)
    raise UsageError("the baseline is of other paths", remedy="name the ones that it was made of")


def _inside_of_host(target: Target, header: Header, sealed: tuple[bytes, ...]) -> bool:
    """Whether a folder of this host is named where the baseline is of paths below its root.

    A copy of a host, mounted somewhere, has such paths too and can be checked.
    """
    if header.kind != "host" or target.kind != "directory":
        return False
    root = os.fsencode(os.path.realpath(target.root))
    if root.strip(b"/") in sealed:
        return True
    return not any(os.path.lexists(os.path.join(root, path)) for path in sealed)


@contextlib.contextmanager
def _writer(baseline: Path, header: Header, update: Signer | None) -> Iterator[Writer | None]:
    if update is None:
        yield None
        return
    with Writer(baseline, msgspec.structs.replace(header, made=int(time.time()))) as writer:
        yield writer


def _own(target: Target, writer: Writer | None, baseline: Path) -> frozenset[bytes]:
    """Paths of our own files below the target's root."""
    places = [baseline] if writer is None else [baseline, writer.temporary]
    return frozenset(place for place in map(target.inside, places) if place is not None)


def _report(
    target: Target, baseline: Path, sealed: Sealed, found: _Found, blind: frozenset[str],
    *, quick: bool,
) -> Report:  # fmt: skip
    header = sealed.header
    usual = {"links", "mount"} | set(header.attributes) & set(BY_CHOICE)
    return Report(
        target=Subject(target.kind, target.name),
        baseline=shown(bytes(baseline))[0],
        mode="quick" if quick else "full",
        sealed_by=f"ed25519:{sealed.public.hex()}",
        sealed_at=header.made,
        verified=True,
        checked=Checked(found.entries, found.files, found.size, found.taken),
        added=tuple(found.added),
        removed=tuple(found.removed),
        changed=tuple(found.changed),
        unseen=tuple(found.unseen),
        not_compared=tuple(sorted(blind & usual)),
        notes=(
            *header.notes,
            *((BY_STATUS,) if quick else ()),
            *(found.provided.notes() if found.provided else ()),
        ),
    )
