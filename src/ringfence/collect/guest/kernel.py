"""An ELF kernel as marks and facts: what it is built of, and which rights it asks memory for."""

from __future__ import annotations

from ringfence.collect.guest.elf import (
    PF_W,
    PF_X,
    Layout,
    Note,
    Segment,
    notes,
    overlaps,
    read_layout,
    symbol_names,
)
from ringfence.collect.guest.marks import Reading
from ringfence.collect.guest.multiboot import read_multiboot
from ringfence.collect.guest.solo5 import Manifest, read_solo5
from ringfence.collect.guest.source import Source
from ringfence.collect.guest.strings import read_strings
from ringfence.knowledge.guests import Guests

XEN_GUEST_OS = 6
ABI_TAG, LINUX_ABI = 1, 0
XEN_GUEST = "__xen_guest"
MOST_XEN_GUEST = 4096
LISTED = 8
PROGRAM = "magic:linux-program"
"""A note that only programs of Linux carry."""


def read_kernel(source: Source, guests: Guests, reading: Reading) -> tuple[Layout, Manifest | None]:
    """The headers of an ELF kernel; everything else is noted in `reading`. Raises Cut."""
    layout = read_layout(source)
    _headers(source, layout, reading)
    _segments(source, layout, reading)
    found = tuple(notes(source, layout))
    for note in found:
        _note(source, layout, note, reading)
    _xen_guest(source, layout, reading)
    manifest = read_solo5(source, layout, found, reading)
    _symbols(source, layout, guests, reading)
    read_multiboot(source, reading)
    read_strings(source, guests, reading)
    return layout, manifest


def _headers(source: Source, layout: Layout, reading: Reading) -> None:
    kind = {"executable": "at a fixed address", "shared": "position independent"}.get(
        layout.kind, layout.kind
    )
    detail = f"{layout.machine}, {layout.bits} bits, {kind}, entry {layout.entry:#x}"
    reading.fact("ELF", source, 16, detail)
    reading.mark(f"osabi:{layout.osabi}", source, 7, f"OS/ABI {layout.osabi}")
    if layout.interpreter:
        reading.mark(f"interpreter:{layout.interpreter}", source, 0, layout.interpreter)
    for section in layout.sections:
        detail = f"section {section.name}"
        reading.mark(f"section:{section.name}", source, section.offset, detail)
    if layout.problem:
        reading.miss("sections", layout.problem)


def _segments(source: Source, layout: Layout, reading: Reading) -> None:
    loads = layout.loads
    listed = ", ".join(_words(item) for item in loads[:LISTED])
    more = f" and {len(loads) - LISTED} more" if len(loads) > LISTED else ""
    at = loads[0].offset if loads else 0
    reading.fact("segments", source, at, f"{listed}{more}" if loads else "none takes up memory")
    for detail, offset in writable_executable(layout)[:LISTED]:
        reading.fact("writable and executable", source, offset, detail)


def writable_executable(layout: Layout) -> list[tuple[str, int]]:
    """What asks for memory that can be written and executed, with its offset in the file."""
    both = PF_W | PF_X
    found = [
        (f"segment {_words(item)}", item.offset)
        for item in layout.loads
        if item.flags & both == both
    ]
    found += [
        (f"segments {_words(one)} and {_words(two)} overlap", two.offset)
        for one, two in overlaps(layout)
    ]
    return found


def _words(segment: Segment) -> str:
    return f"{segment.rights} {segment.address:#x} ({segment.size:,} bytes)"


def _note(source: Source, layout: Layout, note: Note, reading: Reading) -> None:
    name = f"note:{note.owner}/{note.kind:#x}"
    reading.mark(name, source, note.at, f"note of {note.owner!r}, type {note.kind:#x}")
    if note.owner == "Xen" and note.kind == XEN_GUEST_OS:
        text = source.read(note.descriptor, min(note.size, 64)).split(b"\0", 1)[0]
        _guest_os(source, note.at, text.decode("latin-1"), reading)
    if (
        note.owner == "GNU"
        and note.kind == ABI_TAG
        and note.size >= 4
        and source.unpack(f"{layout.order}I", note.descriptor)[0] == LINUX_ABI
    ):
        reading.mark(PROGRAM, source, note.at, "ABI tag of a program for Linux")


def _xen_guest(source: Source, layout: Layout, reading: Reading) -> None:
    """The older form of Xen's notes: a section of words, GUEST_OS among them."""
    section = layout.section(XEN_GUEST)
    if section is None:
        return
    text = source.read(section.offset, min(section.size, MOST_XEN_GUEST)).decode("latin-1")
    for word in text.split("\0", 1)[0].split(","):
        key, _, value = word.partition("=")
        if key == "GUEST_OS":
            _guest_os(source, section.offset, value, reading)


def _guest_os(source: Source, at: int, name: str, reading: Reading) -> None:
    reading.mark(f"guest-os:{name}", source, at, f"GUEST_OS={name}")
    reading.fact("calls itself", source, at, name)


def _symbols(source: Source, layout: Layout, guests: Guests, reading: Reading) -> None:
    """Mark the names that formulas ask for; a whole name stands between two zero bytes."""
    at, names = symbol_names(source, layout)
    if not names:
        reading.mark("magic:stripped", source, 0, "no table of symbol names")
        reading.miss("symbols", "the image is stripped: only strings can show what is linked in")
        return
    reading.mark("magic:symbols", source, at, f"{names.count(0):,} symbol names")
    for name in guests.asked("symbol"):
        place = names.find(b"\0" + name.encode() + b"\0")
        if place >= 0:
            reading.mark(f"symbol:{name}", source, at + place + 1, f"symbol {name}")
