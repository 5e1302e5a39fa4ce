"""The multiboot headers, which stand in the first bytes of any file: a protocol, nobody's own.

https://www.gnu.org/software/grub/manual/multiboot/multiboot.html (first 8,192 bytes, aligned to
4, three words whose sum is 0) and multiboot2 (first 32,768 bytes, aligned to 8, four words).
"""

from __future__ import annotations

import struct

from ringfence.collect.guest.marks import Reading
from ringfence.collect.guest.source import Source

MULTIBOOT, MULTIBOOT2 = 0x1BADB002, 0xE85250D6
SEARCHED, SEARCHED2 = 8192, 32768
ADDRESSES = 1 << 16
INCLUDEOS = 0xFEE1DEAD


def read_multiboot(source: Source, reading: Reading) -> None:
    """Mark the headers found, and what IncludeOS writes behind its own."""
    head = source.read(0, SEARCHED2)
    at = _header(head[:SEARCHED], MULTIBOOT, 4, 3)
    if at >= 0:
        flags = struct.unpack_from("<I", head, at + 4)[0]
        fields = "with" if flags & ADDRESSES else "without"
        reading.mark("magic:multiboot", source, at, f"multiboot header {fields} address fields")
        if struct.pack("<I", INCLUDEOS) in head[at + 12 : at + 64]:
            reading.mark("magic:includeos", source, at, "0xfee1dead behind the multiboot header")
    at = _header(head, MULTIBOOT2, 8, 4)
    if at >= 0:
        reading.mark("magic:multiboot2", source, at, "multiboot2 header")


def _header(head: bytes, magic: int, align: int, words: int) -> int:
    """The offset of a header whose words sum to 0, or -1."""
    raw = struct.pack("<I", magic)
    at = head.find(raw)
    while at >= 0:
        if at % align == 0 and at + 4 * words <= len(head):
            total = sum(struct.unpack_from(f"<{words}I", head, at)) & 0xFFFFFFFF
            if total == 0:
                return at
        at = head.find(raw, at + 1)
    return -1
