"""Page tables of x86, walked from the top: what every page allows, resolved through all levels.

Write and user rights hold only if every level gives them, no-execute if any level sets it (Intel
SDM volume 3, 4.5 and 4.6). The tables are a hostile guest's: a table may contain itself or stand in
a million places. So each table is summed up once for each level at which it stands, and no more
than MOST_TABLES are read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import msgspec

from ringfence.guest.registers import CR4_LA57, CR4_PAE, CR4_PSE, EFER_LMA, Registers

PAGE = 4096
WRITE, USER, NO_EXECUTE = 1, 2, 4
"""Rights of a page as bits of a number from 0 to 7."""
MOST_TABLES = 8192
"""Tables read of one address space: enough to map 16 GiB in small pages."""
_PRESENT, _LARGE = 1, 1 << 7
_NX = 1 << 63

Read = Callable[[int, int], bytes | None]
"""Physical address and length to bytes; None where there is no memory."""
Counts = tuple[int, ...]
"""Pages of 4 KiB for each of the eight rights."""


class Mode(msgspec.Struct, frozen=True):
    """A form of paging: how far an address is shifted at each level, from the top; bytes of an
    entry; the shifts at which an entry may be a large page; bits of a linear address."""

    name: str
    shifts: tuple[int, ...]
    entry: int
    large: frozenset[int]
    bits: int


FIVE_LEVEL = Mode("5-level", (48, 39, 30, 21, 12), 8, frozenset({30, 21}), 57)
FOUR_LEVEL = Mode("4-level", (39, 30, 21, 12), 8, frozenset({30, 21}), 48)
PAE = Mode("PAE", (30, 21, 12), 8, frozenset({21}), 32)
TWO_LEVEL = Mode("32-bit", (22, 12), 4, frozenset(), 32)
TWO_LEVEL_LARGE = Mode("32-bit", (22, 12), 4, frozenset({22}), 32)


def mode(registers: Registers) -> Mode | None:
    """The form of paging in force, None where paging is off (SDM volume 3, 4.1.1)."""
    if not registers.paged:
        return None
    if registers.efer & EFER_LMA:
        return FIVE_LEVEL if registers.cr4 & CR4_LA57 else FOUR_LEVEL
    if registers.cr4 & CR4_PAE:
        return PAE
    return TWO_LEVEL_LARGE if registers.cr4 & CR4_PSE else TWO_LEVEL


class Leaf(msgspec.Struct, frozen=True):
    """One page of any size: linear address, bytes, physical address, rights."""

    start: int
    size: int
    physical: int
    rights: int


class _Entry(msgspec.Struct, frozen=True):
    """A present entry: what it points to, its rights, whether that is a page."""

    target: int
    rights: int
    leaf: bool


class Tables:
    """One address space, as it stands in memory now; what was read is remembered."""

    def __init__(self, read: Read, root: int, form: Mode) -> None:
        self._read = read
        self._root = root
        self.mode = form
        self.unread = 0
        """Tables that lie where no memory is, or beyond MOST_TABLES."""
        self._tables: dict[tuple[int, int], dict[int, _Entry]] = {}
        self._sums: dict[tuple[int, int], Counts] = {}

    @property
    def complete(self) -> bool:
        """Whether every table could be read; otherwise counts are lower bounds."""
        return self.unread == 0

    def counts(self) -> Counts:
        """Pages of 4 KiB for each of the eight rights, each place of a page counted."""
        return self._sum(self._root, 0)

    def leaves(self, wanted: frozenset[int]) -> Iterator[Leaf]:
        """The pages that have one of these rights, in order of their linear addresses."""
        return self._leaves(self._root, 0, 0, WRITE | USER, wanted)

    def translate(self, address: int) -> Leaf | None:
        """The page at a linear address, None where none is mapped."""
        place = address & ((1 << self.mode.bits) - 1)
        table, rights = self._root, WRITE | USER
        for level, shift in enumerate(self.mode.shifts):
            index = place >> shift & (self._length(level) - 1)
            entry = self._entries(table, level).get(index)
            if entry is None:
                return None
            rights = joined(rights, entry.rights)
            if entry.leaf:
                start = self._canonical(place >> shift << shift)
                return Leaf(start, 1 << shift, entry.target, rights)
            table = entry.target
        return None

    def _length(self, level: int) -> int:
        """Entries of a table: 512, or 1,024 of four bytes, or PAE's four at the top."""
        if self.mode is PAE and level == 0:
            return 4
        return PAGE // self.mode.entry

    def _canonical(self, address: int) -> int:
        """A linear address of 64 bits: its highest used bit goes on to the top."""
        bits = self.mode.bits
        if bits > 32 and address >> (bits - 1) & 1:
            return address | ((1 << 64) - (1 << bits))
        return address

    def _entries(self, table: int, level: int) -> dict[int, _Entry]:
        key = (table, level)
        if key not in self._tables:
            data = None
            if len(self._tables) < MOST_TABLES:
                data = self._read(table, self._length(level) * self.mode.entry)
            self.unread += data is None
            self._tables[key] = self._parse(data, level) if data is not None else {}
        return self._tables[key]

    def _parse(self, data: bytes, level: int) -> dict[int, _Entry]:
        letter = "Q" if self.mode.entry == 8 else "I"
        words = struct.unpack(f"<{len(data) // self.mode.entry}{letter}", data)
        return {
            index: self._entry(word, level) for index, word in enumerate(words) if word & _PRESENT
        }

    def _entry(self, word: int, level: int) -> _Entry:
        shift = self.mode.shifts[level]
        leaf = shift == 12 or (shift in self.mode.large and bool(word & _LARGE))
        address = word & 0x000FFFFFFFFFF000
        if leaf and shift > 12:
            address = address >> shift << shift
        if self.mode is PAE and level == 0:
            return _Entry(address, WRITE | USER, False)
        rights = (word >> 1 & 3) | (NO_EXECUTE if word & _NX else 0)
        return _Entry(address, rights, leaf)

    def _sum(self, table: int, level: int) -> Counts:
        """Counts of what lies below a table, as if all levels above allowed everything."""
        key = (table, level)
        if key not in self._sums:
            sums = [0] * 8
            pages = 1 << (self.mode.shifts[level] - 12)
            for entry in self._entries(table, level).values():
                if entry.leaf:
                    sums[entry.rights] += pages
                    continue
                for rights, count in enumerate(self._sum(entry.target, level + 1)):
                    sums[joined(rights, entry.rights)] += count
            self._sums[key] = tuple(sums)
        return self._sums[key]

    def _leaves(
        self, table: int, level: int, base: int, upper: int, wanted: frozenset[int]
    ) -> Iterator[Leaf]:
        shift = self.mode.shifts[level]
        for index, entry in self._entries(table, level).items():
            start = base + (index << shift)
            rights = joined(upper, entry.rights)
            if entry.leaf:
                if rights in wanted:
                    yield Leaf(self._canonical(start), 1 << shift, entry.target, rights)
                continue
            below = self._sum(entry.target, level + 1)
            if any(count and joined(rights, kind) in wanted for kind, count in enumerate(below)):
                yield from self._leaves(entry.target, level + 1, start, rights, wanted)


def joined(upper: int, lower: int) -> int:
    """Rights of two levels together: write and user by and, no-execute by or."""
    return (upper & lower & (WRITE | USER)) | ((upper | lower) & NO_EXECUTE)
