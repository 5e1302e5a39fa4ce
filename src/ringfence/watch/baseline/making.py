"""`ringfence watch init`: a pass over a target, written and sealed."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from ringfence import __version__
from ringfence.errors import InputError, UsageError
from ringfence.watch.baseline.entry import DIRECTORY, Entry
from ringfence.watch.baseline.passes import Pass, kept, looking
from ringfence.watch.baseline.rules import EVERYTHING, NOTHING, Mode, Rule, Rules, rule_for
from ringfence.watch.baseline.seal import Signer
from ringfence.watch.baseline.store import Header, Totals
from ringfence.watch.baseline.targets import Target, check_selection
from ringfence.watch.baseline.writing import Writer

MOST_NOTED = 1000


class Wishes(msgspec.Struct, frozen=True):
    """What a person asked for; `unlisted`: keep only what a rule names."""

    algorithm: str = "sha256"
    attributes: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    unlisted: bool = False
    notes: tuple[str, ...] = ()


class Made(msgspec.Struct, frozen=True):
    """A baseline that was made: its entries, the bytes read, the digests' algorithm, and what could
    not be looked at."""

    entries: int
    bytes_read: int
    algorithm: str
    unseen: tuple[tuple[bytes, str], ...]
    notes: tuple[str, ...] = ()


def make(target: Target, wishes: Wishes, signer: Signer, output: Path) -> Made:
    """Take a baseline of `target` and put it, sealed, at `output`. Raises InputError."""
    absent = [attribute for attribute in wishes.attributes if attribute in target.blind]
    if absent:
        raise UsageError(f"an {target.kind} does not tell {', '.join(absent)}")
    check_selection(target)
    header = Header(
        kind=target.kind, name=target.name, made=int(time.time()), algorithm=wishes.algorithm,
        attributes=wishes.attributes, rules=with_own(wishes.rules, target, output),
        only=target.only, blind=target.blind, unlisted=wishes.unlisted, version=__version__,
        notes=wishes.notes,
    )  # fmt: skip
    entries, size = 0, 0
    unseen: list[tuple[bytes, str]] = []
    with Writer(output, header) as writer:
        own = target.inside(writer.temporary)
        what = Pass(header.algorithm, rules_of(header), skip=frozenset([own] if own else []))
        with looking(target, what) as lots:
            for seen in lots:
                signer.load()  # while others work, not before
                writer.add_all(seen.frames)
                entries, size = entries + seen.entries, size + seen.size
                unseen += seen.unseen[: MOST_NOTED - len(unseen)]
            if not entries:
                raise InputError("holds no files", where=target.name, remedy="is it the right one?")
            writer.seal(Totals(entries, size), signer)
    notes = (*wishes.notes, *_touched(header, target, output))
    return Made(entries, size, wishes.algorithm, tuple(unseen), notes)


def _touched(header: Header, target: Target, output: Path) -> tuple[str, ...]:
    """A note where putting the baseline in its place changes what it has of the folder there."""
    times = [name for name in ("mtime", "ctime") if name in header.attributes]
    own = target.inside(output)
    if not times or own is None:
        return ()
    above, _, name = own.rpartition(b"/")[0].rpartition(b"/")
    folder = Entry(name, DIRECTORY)
    if not any(kept([(above, [folder])], rules_of(header), header.only)):
        return ()
    return (f"it lies below the target: writing it changes {' and '.join(times)} of its own folder,"
            " which checks tell; put it elsewhere",)  # fmt: skip


def rules_of(header: Header) -> Rules:
    """The rules that a baseline was made with."""
    return Rules(header.rules, NOTHING if header.unlisted else EVERYTHING)


def with_own(rules: tuple[Rule, ...], target: Target, output: Path) -> tuple[Rule, ...]:
    """The baseline's own file is not looked at: its seal says more, and it changes by itself."""
    own = target.inside(output)
    return rules if own is None else (*rules, rule_for(own, Mode.IGNORED))
