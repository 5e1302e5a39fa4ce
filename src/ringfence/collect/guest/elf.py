"""ELF kernels: segments and their rights, sections, notes, tables of names. Nothing is trusted.

Format: https://gabi.xinuos.com/. Reads headers, notes and name tables, each with a bound; the
contents are searched by `strings`. `collect/files/elf.py` is the reader for programs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from ringfence.collect.files.elf import MACHINES, MAGIC, PT_INTERP, PT_LOAD
from ringfence.collect.guest.source import Cut, Source

PT_NOTE, SHT_NOTE, SHT_STRTAB, SHT_NOBITS = 4, 7, 3, 8
PF_X, PF_W = 1, 2
KINDS = {1: "relocatable", 2: "executable", 3: "shared", 4: "core"}
MOST_SEGMENTS = 512
MOST_SECTIONS = 8192
MOST_SECTION_NAMES = 1 << 20
MOST_NOTES = 1024
MOST_NOTE_BYTES = 1 << 20
MOST_SYMBOL_NAMES = 48 << 20
MOST_NAME = 256


class Segment(msgspec.Struct, frozen=True):
    """A program header; `flags` as p_flags (1 execute, 2 write, 4 read), sizes in bytes."""

    kind: int
    flags: int
    offset: int
    address: int
    stored: int
    size: int
    align: int

    @property
    def rights(self) -> str:
        """As in a listing: `r-x`."""
        return "".join(
            letter if self.flags & bit else "-" for bit, letter in ((4, "r"), (2, "w"), (1, "x"))
        )


class Section(msgspec.Struct, frozen=True):
    """A section header with its name."""

    name: str
    kind: int
    offset: int
    size: int


class Note(msgspec.Struct, frozen=True):
    """An ELF note: `at` is the offset of its header, `descriptor` that of its contents."""

    owner: str
    kind: int
    at: int
    descriptor: int
    size: int


class Layout(msgspec.Struct, frozen=True):
    """What an ELF file's headers say. `problem` names what in its sections makes no sense."""

    machine: str
    bits: int
    kind: str
    osabi: int
    entry: int
    order: str
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]
    interpreter: str
    problem: str = ""

    @property
    def loads(self) -> tuple[Segment, ...]:
        """The segments that take up memory."""
        return tuple(item for item in self.segments if item.kind == PT_LOAD and item.size)

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((item for item in self.sections if item.name == name), None)


def read_layout(source: Source) -> Layout:
    """The headers of an ELF file. Raises Cut where they make no sense.

    Broken sections leave the segments: a loader does not look at sections.
    """
    head = source.exactly(0, 20)
    if head[:4] != MAGIC or head[4] not in (1, 2) or head[5] not in (1, 2):
        raise Cut("class or byte order makes no sense")
    order, wide = "<" if head[5] == 1 else ">", head[4] == 2
    kind, machine = struct.unpack_from(f"{order}HH", head, 16)
    entry, table, sections = source.unpack(order + ("QQQ" if wide else "III"), 24)
    sizes = source.unpack(f"{order}HHHHH", 54 if wide else 42)
    segments = _segments(source, order, wide, table, sizes[0], sizes[1])
    interpreter = next((item for item in segments if item.kind == PT_INTERP), None)
    problem = ""
    try:
        found = _sections(source, order, wide, sections, sizes[2:])
    except Cut as error:
        found, problem = (), f"section headers: {error}"
    return Layout(
        machine=MACHINES.get(machine, f"machine-{machine}"),
        bits=64 if wide else 32,
        kind=KINDS.get(kind, f"type {kind}"),
        osabi=head[7],
        entry=entry,
        order=order,
        segments=segments,
        sections=found,
        interpreter="" if interpreter is None else _text(source, interpreter.offset),
        problem=problem,
    )


def _segments(
    source: Source, order: str, wide: bool, table: int, size: int, count: int
) -> tuple[Segment, ...]:
    least = 56 if wide else 32
    if count and size < least:
        raise Cut(f"program headers of {size} bytes")
    if count > MOST_SEGMENTS:
        raise Cut(f"{count} program headers")
    found = []
    for index in range(count):
        at = table + index * size
        if wide:
            kind, flags, offset, address, _, stored, memory, align = source.unpack(
                f"{order}IIQQQQQQ", at
            )
        else:
            kind, offset, address, _, stored, memory, flags, align = source.unpack(
                f"{order}IIIIIIII", at
            )
        found.append(Segment(kind, flags, offset, address, stored, memory, align))
    return tuple(found)


def _sections(
    source: Source, order: str, wide: bool, table: int, sizes: tuple[int, ...]
) -> tuple[Section, ...]:
    size, count, names = sizes
    if not table:
        return ()
    if size < (64 if wide else 40):
        raise Cut(f"of {size} bytes")
    first = _section(source, order, wide, table)
    # More than 0xff00 sections: the count stands in the first header (gABI, "Section Headers").
    count, names = count or first[3], first[4] if names == 0xFFFF else names
    if count > MOST_SECTIONS:
        raise Cut(f"{count} of them")
    rows = [_section(source, order, wide, table + index * size) for index in range(count)]
    if names >= len(rows):
        raise Cut("their table of names is none of them")
    start, length = rows[names][2], min(rows[names][3], MOST_SECTION_NAMES)
    text = source.read(start, length)
    return tuple(
        Section(_name(text, name), kind, offset, length) for name, kind, offset, length, _ in rows
    )


def _section(source: Source, order: str, wide: bool, at: int) -> tuple[int, int, int, int, int]:
    """(name, type, offset, size, link) of one section header."""
    if wide:
        name, kind, _, _, offset, length, link = source.unpack(f"{order}IIQQQQI", at)
    else:
        name, kind, _, _, offset, length, link = source.unpack(f"{order}IIIIIII", at)
    return name, kind, offset, length, link


def notes(source: Source, layout: Layout) -> Iterator[Note]:
    """Every note of the note segments and, without any, of the note sections.

    A note that claims more than its segment holds ends that segment.
    """
    places = [(item.offset, item.stored, item.align) for item in layout.segments
              if item.kind == PT_NOTE]  # fmt: skip
    places += [(item.offset, item.size, 4) for item in layout.sections if item.kind == SHT_NOTE]
    seen: set[int] = set()
    for start, size, align in places:
        for note in _notes_at(source, layout.order, start, size, 8 if align == 8 else 4):
            if note.at not in seen:
                seen.add(note.at)
                yield note
            if len(seen) >= MOST_NOTES:
                return


def _notes_at(source: Source, order: str, start: int, size: int, align: int) -> Iterator[Note]:
    """Notes are padded to 4 bytes; in a segment aligned to 8, to 8 (as binutils reads them)."""
    data = source.read(start, min(size, MOST_NOTE_BYTES))
    at = 0
    while at + 12 <= len(data):
        name, length, kind = struct.unpack_from(f"{order}III", data, at)
        descriptor = _padded(at + 12 + name, align)
        end = descriptor + length
        if not name or name > MOST_NAME or end > len(data):
            return
        owner = data[at + 12 : at + 12 + name].split(b"\0", 1)[0].decode("latin-1")
        yield Note(owner, kind, start + at, start + descriptor, length)
        at = _padded(end, align)


def _padded(value: int, align: int) -> int:
    return (value + align - 1) & -align


def symbol_names(source: Source, layout: Layout) -> tuple[int, bytes]:
    """The largest table of symbol names and its offset; empty for a stripped image."""
    tables = [item for item in layout.sections if item.kind == SHT_STRTAB
              and item.name in (".strtab", ".dynstr")]  # fmt: skip
    if not tables:
        return 0, b""
    table = max(tables, key=lambda item: (item.name == ".strtab", item.size))
    return table.offset, source.read(table.offset, min(table.size, MOST_SYMBOL_NAMES))


def overlaps(layout: Layout) -> tuple[tuple[Segment, Segment], ...]:
    """Pairs of segments that claim the same memory, where together they give write and execute."""
    loads = layout.loads
    return tuple(
        (one, two)
        for index, one in enumerate(loads)
        for two in loads[index + 1 :]
        if one.address < two.address + two.size
        and two.address < one.address + one.size
        and (one.flags | two.flags) & (PF_W | PF_X) == PF_W | PF_X
    )


def _name(table: bytes, at: int) -> str:
    end = table.find(b"\0", at, at + MOST_NAME)
    return table[at : end if end >= 0 else at + MOST_NAME].decode("latin-1")


def _text(source: Source, at: int) -> str:
    return source.read(at, MOST_NAME).split(b"\0", 1)[0].decode("latin-1")
