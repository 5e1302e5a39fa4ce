"""Moves over from AIDE: its configuration becomes rules, its database becomes a sealed baseline."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ringfence import __version__
from ringfence.errors import InputError, UsageError
from ringfence.watch.baseline.aide.configuration import read_configuration
from ringfence.watch.baseline.aide.database import Row, is_database, read_database
from ringfence.watch.baseline.aide.digests import digests_of
from ringfence.watch.baseline.entry import Group, joined
from ringfence.watch.baseline.making import Made, Wishes, make, rules_of, with_own
from ringfence.watch.baseline.passes import kept
from ringfence.watch.baseline.rules import Mode, rule_for
from ringfence.watch.baseline.seal import Signer
from ringfence.watch.baseline.sorting import Sorter
from ringfence.watch.baseline.store import Header, Packer, Totals
from ringfence.watch.baseline.targets import Target
from ringfence.watch.baseline.writing import Writer

BLIND = ("device", "mount")
MOST_GROWING = 10_000


def take_over(
    target: Target, wishes: Wishes, signer: Signer, output: Path, sources: tuple[Path, ...],
    looks: tuple[str, ...] = (),
) -> Made:  # fmt: skip
    """A baseline from AIDE's files. A configuration alone gives rules for a pass over the target;
    with a database, its entries are the baseline. `looks` are options that a person gave for how a
    pass looks at files: none is made with a database. Raises InputError, UsageError."""
    if target.name != "host":
        raise UsageError("AIDE's paths are those of a host", remedy="the target is `host`")
    databases = [path for path in sources if is_database(path)]
    configurations = [path for path in sources if path not in databases]
    if len(databases) > 1 or len(configurations) > 1:
        raise UsageError("take one configuration and one database at a time")
    if databases and looks:
        raise UsageError(f"{looks[0]} is for a pass over files, and these entries are AIDE's",
                         where=str(databases[0]), remedy=f"leave out {looks[0]}")  # fmt: skip
    for path in configurations:
        found = read_configuration(path)
        wishes = msgspec.structs.replace(
            wishes, rules=(*found.rules, *wishes.rules), unlisted=True, notes=found.notes,
            attributes=tuple(dict.fromkeys((*wishes.attributes, *found.attributes))),
        )  # fmt: skip
        target = msgspec.structs.replace(target, only=())
    if databases:
        return _from_database(target, wishes, signer, output, databases[0])
    return make(target, wishes, signer, output)


def _from_database(
    target: Target, wishes: Wishes, signer: Signer, output: Path, path: Path
) -> Made:
    database = read_database(path)
    with contextlib.closing(Sorter()) as sorter:
        growing, present = _sorted(sorter, database.rows)
        if not wishes.unlisted and len(growing) > MOST_GROWING:
            raise InputError(f"{len(growing)} files grow", where=str(path),
                             remedy="give the aide.conf, too")  # fmt: skip
        rules = wishes.rules
        if not wishes.unlisted:
            rules = (*(rule_for(item, Mode.GROWS) for item in growing), *rules)
        header = Header(
            kind="host", name=target.name, made=int(time.time()), algorithm=database.algorithm,
            attributes=tuple(dict.fromkeys((*wishes.attributes, *present))),
            rules=with_own(rules, target, output), blind=BLIND,
            unlisted=wishes.unlisted, version=__version__,
        )  # fmt: skip
        # What the rules leave out no check looks at: it would be missed as removed.
        of_header = rules_of(header)
        if not wishes.unlisted:
            only = tuple(_outermost(kept(sorter.groups(), of_header, ())))
            header = msgspec.structs.replace(header, only=only)
        digests = digests_of(kept(sorter.groups(), of_header, ()), of_header, database.algorithm)
        notes = (*wishes.notes, *digests.notes())
        header = msgspec.structs.replace(
            header, mixed=digests.mixed, notes=(f"taken over from AIDE's {path.name}", *notes)
        )
        entries = _write(header, kept(sorter.groups(), of_header, ()), signer, output)
    return Made(entries, 0, database.algorithm, (), notes)


def _sorted(sorter: Sorter, rows: Iterable[Row]) -> tuple[list[bytes], tuple[str, ...]]:
    """Sort the rows; gives paths of files that grow, and which attributes by choice are there."""
    growing: list[bytes] = []
    present: set[str] = set()
    for row in rows:
        sorter.put(row.folder, row.entry)
        if row.grows:
            growing.append(joined(row.folder, row.entry.name))
        present.update(
            name for name in ("mtime", "ctime", "inode") if getattr(row.entry, name) is not None
        )
    return growing, tuple(sorted(present))


def _outermost(groups: Iterable[Group]) -> Iterator[bytes]:
    """The paths that no other path of the database leads to."""
    roots: set[bytes] = set()
    for folder, entries in groups:
        if _inside(folder, roots):
            continue
        for entry in entries:
            path = joined(folder, entry.name)
            if not _inside(path, roots):
                roots.add(path)
                yield path


def _inside(path: bytes, roots: set[bytes]) -> bool:
    while path:
        if path in roots:
            return True
        path = path.rpartition(b"/")[0]
    return b"" in roots


def _write(header: Header, groups: Iterable[Group], signer: Signer, output: Path) -> int:
    packer, entries, size = Packer(), 0, 0
    with Writer(output, header) as writer:
        for folder, found in groups:
            writer.add_all(list(packer.frames([(folder, found)])))
            entries += len(found)
            size += sum(entry.size or 0 for entry in found if entry.digest)
        if not entries:
            raise InputError("holds no entries that the rules keep", where="AIDE's database")
        writer.seal(Totals(entries, size), signer)
    return entries
