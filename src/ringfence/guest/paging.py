"""Page tables, walked from the top: what every page allows, resolved through all levels.

Write and user rights hold only if every level gives them, the no-execute rights' absence if any
level takes it away; x86 and aarch64 agree in that, and differ in the form of their entries, which
a module of `arch` knows. The tables are a hostile guest's: a table may contain itself or stand in a
million places. So each table is summed up once for each level at which it stands, no more than
MOST_TABLES with MOST_ENTRIES are read, and a walk ends when its time is over.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

PAGE = 4096
WRITE, USER, NO_EXECUTE, KERNEL_NO_EXECUTE = 1, 2, 4, 8
"""Rights of a page as bits of a number below RIGHTS. x86 has one bit against execution, NO_EXECUTE;
of aarch64 that is UXN, which counts in EL0, and KERNEL_NO_EXECUTE is PXN, which counts in EL1."""
RIGHTS = 16
MOST_TABLES = 8192
"""Tables read of one tree."""
MOST_ENTRIES = 1 << 20
"""Valid entries after which no further table of a tree is read: enough to map 4 GiB in small pages,
in some 150 MB of ours."""

Read = Callable[[int, int], bytes | None]
"""Physical address and length to bytes; None where there is no memory."""
Counts = tuple[int, ...]
"""Pages of 4 KiB for each of the RIGHTS."""


class Entry(msgspec.Struct, frozen=True):
    """A valid entry: what it points to, its rights, whether that is a page."""

    target: int
    rights: int
    leaf: bool


class Form(Protocol):
    """A form of page tables."""

    @property
    def name(self) -> str:
        """In the words of a report."""

    @property
    def shifts(self) -> tuple[int, ...]:
        """How far an address is shifted at each level, from the top."""

    @property
    def bits(self) -> int:
        """Bits of an address that the tables translate."""

    def length(self, level: int) -> int:
        """Entries of a table."""

    def size(self, level: int) -> int:
        """Bytes of a table."""

    def entries(self, data: bytes, level: int) -> dict[int, Entry]:
        """The valid entries of a table, by index, in order."""


class Root(msgspec.Struct, frozen=True):
    """Where a tree of tables stands and which linear addresses it translates: those from `start`
    on; with `signed` (x86) all, the highest bit of each going on to the top. `upper`: the rights
    that no page below it exceeds."""

    table: int
    form: Form
    start: int = 0
    signed: bool = False
    upper: int = WRITE | USER

    def offset(self, address: int) -> int | None:
        """A linear address as the tables count it; None where it is not theirs."""
        span = 1 << self.form.bits
        if self.signed:
            return address & (span - 1)
        return address - self.start if self.start <= address < self.start + span else None

    def address(self, offset: int) -> int:
        """The linear address, of 64 bits, of what the tables count as `offset`."""
        bits = self.form.bits
        if self.signed and bits > 32 and offset >> (bits - 1) & 1:
            return offset | ((1 << 64) - (1 << bits))
        return self.start + offset


class Leaf(msgspec.Struct, frozen=True):
    """One page of any size: linear address, bytes, physical address, rights."""

    start: int
    size: int
    physical: int
    rights: int


class Tables:
    """One address space, as it stands in memory now; what was read is remembered. `roots`: its
    trees, in order of their addresses. `until`: time.monotonic() after which no further table is
    read, and no page listed."""

    def __init__(self, read: Read, roots: tuple[Root, ...], until: float = math.inf) -> None:
        self._read = read
        self._trees = [_Tree(read, root, until) for root in roots]
        self.mode = " and ".join(dict.fromkeys(root.form.name for root in roots))

    @property
    def complete(self) -> bool:
        """Whether every table could be read; otherwise counts are lower bounds."""
        return not any(tree.unread for tree in self._trees)

    @property
    def late(self) -> bool:
        """Whether `leaves` ended early because time was over."""
        return any(tree.late for tree in self._trees)

    def counts(self) -> Counts:
        """Pages of 4 KiB for each of the rights, each place of a page counted."""
        found = [0] * RIGHTS
        for tree in self._trees:
            for rights, count in enumerate(tree.counts()):
                found[joined(tree.root.upper, rights)] += count
        return tuple(found)

    def frames(self) -> Iterator[tuple[int, int]]:
        """Where the tables lie that were read: physical addresses, from the first to behind the
        last."""
        return itertools.chain.from_iterable(tree.frames() for tree in self._trees)

    def leaves(self, wanted: frozenset[int]) -> Iterator[Leaf]:
        """The pages that have one of these rights, in order of their linear addresses."""
        return itertools.chain.from_iterable(tree.leaves(wanted) for tree in self._trees)

    def backed(self, address: int) -> bool:
        """Whether a linear address leads to memory; else to a device, or nowhere."""
        leaf = self.translate(address)
        if leaf is None:
            return False
        return self._read(leaf.physical + address - leaf.start, 8) is not None

    def translate(self, address: int) -> Leaf | None:
        """The page at a linear address, None where none is mapped."""
        for tree in self._trees:
            offset = tree.root.offset(address)
            if offset is not None:
                return tree.translate(offset)
        return None

    def readable(self, address: int) -> bool:
        """Whether what stands at a linear address is known: no table on the way is unread."""
        for tree in self._trees:
            offset = tree.root.offset(address)
            if offset is not None:
                return tree.readable(offset)
        return True


class _Tree:
    """One tree of tables."""

    def __init__(self, read: Read, root: Root, until: float) -> None:
        self.root = root
        self.unread: set[tuple[int, int]] = set()
        """Tables that lie where no memory is, beyond what is read or after the end of time."""
        self.late = False
        self._until = until
        self._held = 0
        self._form = root.form
        self._read = read
        self._tables: dict[tuple[int, int], dict[int, Entry]] = {}
        self._sums: dict[tuple[int, int], Counts] = {}

    def counts(self) -> Counts:
        return self._sum(self.root.table, 0)

    def frames(self) -> Iterator[tuple[int, int]]:
        for table, level in self._tables.keys() - self.unread:
            yield table, table + self._form.size(level)

    def leaves(self, wanted: frozenset[int]) -> Iterator[Leaf]:
        return self._leaves(self.root.table, 0, 0, self.root.upper, wanted)

    def translate(self, place: int) -> Leaf | None:
        table, rights = self.root.table, self.root.upper
        for level, shift in enumerate(self._form.shifts):
            index = place >> shift & (self._form.length(level) - 1)
            entry = self._entries(table, level).get(index)
            if entry is None:
                return None
            rights = joined(rights, entry.rights)
            if entry.leaf:
                start = self.root.address(place >> shift << shift)
                return Leaf(start, 1 << shift, entry.target, rights)
            table = entry.target
        return None

    def readable(self, place: int) -> bool:
        table = self.root.table
        for level, shift in enumerate(self._form.shifts):
            entries = self._entries(table, level)
            if (table, level) in self.unread:
                return False
            entry = entries.get(place >> shift & (self._form.length(level) - 1))
            if entry is None or entry.leaf:
                return True
            table = entry.target
        return True

    def _over(self) -> bool:
        return time.monotonic() > self._until

    def _entries(self, table: int, level: int) -> dict[int, Entry]:
        key = (table, level)
        if key not in self._tables:
            data = None
            full = len(self._tables) >= MOST_TABLES or self._held >= MOST_ENTRIES
            if not full and not self._over():
                data = self._read(table, self._form.size(level))
            if data is None:
                self.unread.add(key)
            self._tables[key] = self._form.entries(data, level) if data is not None else {}
            self._held += len(self._tables[key])
        return self._tables[key]

    def _sum(self, table: int, level: int) -> Counts:
        """Counts of what lies below a table, as if all levels above allowed everything."""
        key = (table, level)
        if key not in self._sums:
            sums = [0] * RIGHTS
            pages = 1 << (self._form.shifts[level] - 12)
            for entry in self._entries(table, level).values():
                if entry.leaf:
                    sums[entry.rights] += pages
                    continue
                for rights, count in enumerate(self._sum(entry.target, level + 1)):
                    if count:
                        sums[joined(rights, entry.rights)] += count
            self._sums[key] = tuple(sums)
        return self._sums[key]

    def _leaves(
        self, table: int, level: int, base: int, upper: int, wanted: frozenset[int]
    ) -> Iterator[Leaf]:
        shift = self._form.shifts[level]
        if self._over():
            self.late = True
            return
        for index, entry in self._entries(table, level).items():
            start = base + (index << shift)
            rights = joined(upper, entry.rights)
            if entry.leaf:
                if rights in wanted:
                    yield Leaf(self.root.address(start), 1 << shift, entry.target, rights)
                continue
            below = self._sum(entry.target, level + 1)
            if any(count and joined(rights, kind) in wanted for kind, count in enumerate(below)):
                yield from self._leaves(entry.target, level + 1, start, rights, wanted)


def joined(upper: int, lower: int) -> int:
    """Rights of two levels together: write and user by and, those against execution by or."""
    return (upper & lower & (WRITE | USER)) | ((upper | lower) & (NO_EXECUTE | KERNEL_NO_EXECUTE))
