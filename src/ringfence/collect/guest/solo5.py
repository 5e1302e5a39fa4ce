"""Solo5's two notes: the target that an image is built for, and the devices that it declares.

https://github.com/Solo5/solo5/blob/master/include/mft_abi.h and elf_abi.h. A tender refuses to
attach what a manifest does not declare, so its list is the whole list.
"""

from __future__ import annotations

import msgspec

from ringfence.collect.guest.elf import Layout, Note
from ringfence.collect.guest.marks import Reading
from ringfence.collect.guest.source import Cut, Source

OWNER = "Solo5"
MFT1, ABI1 = 0x3154464D, 0x31494241
TARGETS = {1: "hvt", 2: "spt", 3: "virtio", 4: "muen", 5: "genode", 6: "xen"}
DEVICES = {1: "block", 2: "net"}
RESERVED = 1 << 30
NAME, ENTRY, HEADER = 68, 104, 8
MOST_ENTRIES = 64
DESCRIPTOR = 20
"""From a note's header to its descriptor: the name is stored in 8 bytes, whatever the alignment."""
PADDING = 4
"""Before the manifest: its records are aligned to 8."""


class Device(msgspec.Struct, frozen=True):
    """A device that the manifest declares: `kind` is `block` or `net`."""

    kind: str
    name: str


class Manifest(msgspec.Struct, frozen=True):
    """What the notes say. `target` is empty where no ABI note was read."""

    target: str
    devices: tuple[Device, ...] | None


def read_solo5(
    source: Source, layout: Layout, found: tuple[Note, ...], reading: Reading
) -> Manifest | None:
    """The notes of an image, noted in `reading`; None where it has none of Solo5's."""
    target, devices = "", None
    own = [note for note in found if note.owner == OWNER]
    for note in own:
        try:
            if note.kind == ABI1 and not target:
                target = _target(source, layout, note, reading)
            elif note.kind == MFT1 and devices is None:
                devices = _devices(source, layout, note)
                words = ", ".join(f"{item.kind} {item.name!r}" for item in devices)
                reading.fact("declared devices", source, note.at, words or "none")
        except Cut as error:
            reading.miss("a note of Solo5", f"makes no sense: {error}")
    return Manifest(target, devices) if own else None


def _target(source: Source, layout: Layout, note: Note, reading: Reading) -> str:
    number, version = source.unpack(f"{layout.order}II", note.at + DESCRIPTOR)
    target = TARGETS.get(number, f"target-{number}")
    reading.mark(f"magic:solo5-{target}", source, note.at, f"ABI note: target {target}")
    reading.fact("target", source, note.at, f"Solo5 {target}, ABI version {version}")
    return target


def _devices(source: Source, layout: Layout, note: Note) -> tuple[Device, ...]:
    """The entries of a manifest, the reserved first one left out. Raises Cut."""
    at = note.at + DESCRIPTOR + PADDING
    version, count = source.unpack(f"{layout.order}II", at)
    if version != 1 or not 0 < count <= MOST_ENTRIES:
        raise Cut(f"manifest of version {version} with {count} entries")
    if note.size < PADDING + HEADER + count * ENTRY:
        raise Cut(f"{count} entries in {note.size} bytes")
    devices = []
    for index in range(count):
        start = at + HEADER + index * ENTRY
        name = source.exactly(start, NAME).split(b"\0", 1)[0]
        (kind,) = source.unpack(f"{layout.order}I", start + NAME)
        if kind >= RESERVED:
            continue
        if kind not in DEVICES:
            raise Cut(f"device of type {kind}")
        devices.append(Device(DEVICES[kind], name.decode("ascii", "replace")))
    return tuple(devices)
