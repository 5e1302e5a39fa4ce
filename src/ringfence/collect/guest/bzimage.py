"""Linux/x86 boot images: the setup header and the kernel packed behind it.

https://docs.kernel.org/arch/x86/boot.html. The header is a boot protocol that other systems use
too (OSv, memtest86+, iPXE): what is inside must say what it is.
"""

from __future__ import annotations

import re

from ringfence.collect.files.elf import MAGIC as ELF
from ringfence.collect.guest.marks import Reading
from ringfence.collect.guest.payload import expand
from ringfence.collect.guest.source import Cut, Source

MAGIC, MAGIC_AT = b"HdrS", 0x202
MOST_STUB = 64 << 10
MOST_PAYLOAD = 96 << 20
MOST_VERSION = 256
RELOCATABLE, PAYLOAD = 0x205, 0x208
"""Versions of the protocol from which on these fields are there."""
_LINUX = re.compile(r"\d+\.\d+[\w.+~-]* \([^)@]+@[^)]+\) #\d+ ")
"""The version field as init/version.c and the kernel's Makefile make it."""


def is_bzimage(head: bytes) -> bool:
    """Whether the first bytes hold a boot sector with the setup header behind it."""
    return head[MAGIC_AT : MAGIC_AT + 4] == MAGIC and head[510:512] == b"\x55\xaa"


def read_bzimage(source: Source, reading: Reading) -> Source | None:
    """Note what the header says; the expanded kernel, or None where it could not be had."""
    reading.mark("magic:HdrS", source, MAGIC_AT, "HdrS in the setup header")
    sectors = source.exactly(0x1F1, 1)[0] or 4
    protocol, pointer = source.unpack("<H6xH", 0x206)
    words = [f"protocol {protocol >> 8}.{protocol & 255:02d}"]
    if protocol >= RELOCATABLE:
        words.append("relocatable" if source.exactly(0x234, 1)[0] else "at a fixed address")
    reading.fact("boot header", source, MAGIC_AT, ", ".join(words))
    if pointer and pointer < sectors * 512:
        _version(source, pointer + 512, reading)
    start = (sectors + 1) * 512
    offset, length = source.unpack("<II", 0x248) if protocol >= PAYLOAD else (0, 0)
    if length:
        return _payload(source, start + offset, length, reading)
    return _plain(source, start, reading)


def _plain(source: Source, start: int, reading: Reading) -> Source | None:
    """An ELF kernel that simply follows the setup code, as in OSv's vmlinuz.bin."""
    at = source.read(start, MOST_STUB).find(ELF)
    if at < 0:
        return None
    reading.fact("kernel behind the header", source, start + at, "an ELF file")
    return source.part(start + at, source.size)


def _version(source: Source, at: int, reading: Reading) -> None:
    text = source.read(at, MOST_VERSION).split(b"\0", 1)[0].decode("latin-1")
    if not text:
        return
    reading.fact("version in the header", source, at, text)
    if _LINUX.match(text):
        reading.mark("magic:linux-version-field", source, at, f"version field {text!r}")
        reading.version("linux-header", source, at, text.split(" ", 1)[0])


def _payload(source: Source, at: int, length: int, reading: Reading) -> Source | None:
    try:
        if length > MOST_PAYLOAD:
            raise Cut(f"it claims {length} bytes")
        name, data = expand(source.exactly(at, length))
    except Cut as error:
        reading.mark("magic:payload-not-read", source, at, f"payload not read: {error}")
        reading.miss("the compressed kernel", str(error))
        return None
    reading.fact("compressed kernel", source, at, f"{name}, {length:,} to {len(data):,} bytes")
    return source.inside(data, "expanded kernel")
