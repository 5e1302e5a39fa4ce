"""PE images: EFI applications, among them unified kernel images (UKI).

https://learn.microsoft.com/windows/win32/debug/pe-format and
https://uapi-group.org/specifications/specs/unified_kernel_image/. The kernel of a UKI is an image
of its own in the section `.linux`; its command line and release file are sections too.
"""

from __future__ import annotations

import msgspec

from ringfence.collect.guest.marks import Reading
from ringfence.collect.guest.source import Cut, Source

MOST_SECTIONS = 96
"""The limit of the Windows loader."""
MOST_TEXT = 64 << 10
SECURITY = 4
"""Index of the certificate table among the data directories."""
MACHINES = {0x14C: "i386", 0x8664: "x86_64", 0xAA64: "aarch64", 0x5064: "riscv"}
EFI_SUBSYSTEMS = (10, 11, 12, 13)


class Section(msgspec.Struct, frozen=True):
    """A section; `flags` has 0x20000000 for execute and 0x80000000 for write."""

    name: str
    offset: int
    size: int
    flags: int


class Portable(msgspec.Struct, frozen=True):
    """What the headers of a PE file say."""

    machine: str
    sections: tuple[Section, ...]

    @property
    def writable_executable(self) -> tuple[str, ...]:
        """The names of sections with both rights."""
        both = 0xA0000000
        return tuple(item.name for item in self.sections if item.flags & both == both)

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((item for item in self.sections if item.name == name), None)


def read_pe(source: Source, reading: Reading) -> Portable | None:
    """The headers, noted in `reading`; None where the magic is missing. Raises Cut."""
    if source.read(0, 2) != b"MZ":
        return None
    (at,) = source.unpack("<I", 0x3C)
    if source.read(at, 4) != b"PE\0\0":
        return None
    machine, count, _, _, _, optional, _ = source.unpack("<HHIIIHH", at + 4)
    if count > MOST_SECTIONS:
        raise Cut(f"{count} sections")
    if optional:
        _optional(source, at + 24, optional, reading)
    sections = tuple(_section(source, at + 24 + optional + 40 * index) for index in range(count))
    for item in sections:
        reading.mark(f"section:{item.name}", source, item.offset, f"section {item.name}")
    return Portable(MACHINES.get(machine, f"machine-{machine:#x}"), sections)


def _section(source: Source, at: int) -> Section:
    name, memory, _, stored, offset, flags = source.unpack("<8sIIII12xI", at)
    text = bytes(name).split(b"\0", 1)[0].decode("latin-1")
    # What is stored is rounded up to the file alignment; the size in memory is exact.
    return Section(text, offset, min(stored, memory) if memory else stored, flags)


def _optional(source: Source, at: int, size: int, reading: Reading) -> None:
    """Subsystem and certificate table; a header too short for them says nothing."""
    if size < 72:
        return
    (magic,) = source.unpack("<H", at)
    (subsystem,) = source.unpack("<H", at + 68)
    if subsystem in EFI_SUBSYSTEMS:
        reading.mark("magic:efi-application", source, at + 68, f"subsystem {subsystem} (EFI)")
    directory = at + (112 if magic == 0x20B else 96) + 8 * SECURITY
    if directory + 8 > at + size:
        return
    place, length = source.unpack("<II", directory)
    if length:
        reading.fact("signature", source, place, "carries a certificate table; not verified")


def text_of(source: Source, section: Section | None) -> str:
    """The text of a section (`.cmdline`, `.osrel`), without what fills it up; '' without one."""
    if section is None:
        return ""
    data = source.read(section.offset, min(section.size, MOST_TEXT))
    return data.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
