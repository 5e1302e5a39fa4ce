"""Boot images of arm64: the header of `Image`, and EFI programs that carry one compressed (zboot).

https://docs.kernel.org/arch/arm64/booting.html and drivers/firmware/efi/libstub/zboot-header.S in
Linux. With an EFI stub an Image is a PE file as well. Other systems use the header, too: what is
inside must say what it is.
"""

from __future__ import annotations

import struct

from ringfence.collect.guest.marks import Reading
from ringfence.collect.guest.payload import expand
from ringfence.collect.guest.source import Cut, Source

MAGIC, MAGIC_AT = b"ARM\x64", 56
ZBOOT, ZBOOT_AT = b"zimg", 4
MOST_PAYLOAD = 96 << 20
_PAGES = ("of a size not told", "of 4 KiB", "of 16 KiB", "of 64 KiB")


def is_arm64(head: bytes) -> bool:
    """Whether the first bytes are the header of an Image."""
    return head[MAGIC_AT : MAGIC_AT + 4] == MAGIC


def is_zboot(head: bytes) -> bool:
    """Whether the first bytes are those of an EFI program that unpacks a kernel."""
    return head[:2] == b"MZ" and head[ZBOOT_AT : ZBOOT_AT + 4] == ZBOOT


def read_arm64(source: Source, reading: Reading) -> None:
    """Note what the header of an Image says, where there is one."""
    head = source.read(0, MAGIC_AT + 4)
    if not is_arm64(head):
        return
    reading.mark("magic:arm64-image", source, MAGIC_AT, "ARM\\x64 in the header")
    _, size, flags = struct.unpack_from("<QQQ", head, 8)
    order = "big" if flags & 1 else "little"
    where = "anywhere in memory" if flags >> 3 & 1 else "near the start of memory"
    reading.fact(
        "arm64 header", source, MAGIC_AT,
        f"aarch64, {order}-endian, pages {_PAGES[flags >> 1 & 3]}, {size:,} bytes, {where}",
    )  # fmt: skip


def read_zboot(source: Source, reading: Reading) -> Source | None:
    """The kernel that an EFI zboot program carries; None, and noted, where it could not be had."""
    try:
        offset, length = source.unpack("<II", 8)
        if length > MOST_PAYLOAD:
            raise Cut(f"it claims {length} bytes")
        name, data = expand(source.exactly(offset, length))
    except Cut as error:
        reading.miss("the compressed kernel", str(error))
        return None
    detail = f"{name}, {length:,} to {len(data):,} bytes"
    reading.fact("compressed kernel", source, offset, detail)
    return source.inside(data, "expanded kernel")
