"""Small images with published signatures, made byte by byte; the reader under test is not used."""

from __future__ import annotations

import struct
import uuid
import zlib

R, W, X = 4, 2, 1
PT_LOAD, PT_INTERP, PT_NOTE = 1, 3, 4
BASE = 0x100000


def note(owner: str, kind: int, body: bytes) -> bytes:
    """An ELF note, name and body padded to 4 bytes."""
    name = owner.encode() + b"\0"
    head = struct.pack("<III", len(name), len(body), kind)
    return (
        head + name.ljust(-(-len(name) // 4) * 4, b"\0") + body.ljust(-(-len(body) // 4) * 4, b"\0")
    )


def solo5_abi(target: int, version: int = 2) -> bytes:
    """The note of include/elf_abi.h."""
    return note("Solo5", 0x31494241, struct.pack("<IIII", target, version, 0, 0))


def solo5_manifest(*devices: tuple[str, int]) -> bytes:
    """The note of include/mft_abi.h: (name, 1 for a block or 2 for a net device)."""
    entries = [struct.pack("<68sI32x", b"", 1 << 30)]
    entries += [struct.pack("<68sI32x", name.encode(), kind) for name, kind in devices]
    body = bytes(4) + struct.pack("<II", 1, len(entries)) + b"".join(entries)
    return note("Solo5", 0x3154464D, body)


def arm64(contents: bytes, flags: int = 0b1010, size: int = 0x10000) -> bytes:
    """An Image without an EFI stub (Documentation/arch/arm64/booting.rst)."""
    head = struct.pack("<IIQQQQQQ", 0x14000010, 0, 0, size, flags, 0, 0, 0)
    return head + b"ARM\x64" + bytes(4) + contents.ljust(1024, b"\0")


def zboot(payload: bytes) -> bytes:
    """An EFI program that carries a kernel (drivers/firmware/efi/libstub/zboot-header.S)."""
    whole = pe({".text": (0x60000020, bytes(4096) + payload)}, machine=0xAA64)
    at = whole.index(payload)
    return whole[:4] + b"zimg" + struct.pack("<II", at, len(payload)) + whole[16:]


def elf(
    *,
    loads: tuple[tuple[int, int, int], ...] = (
        (R | X, BASE, 0x1000),
        (R | W, BASE + 0x1000, 0x1000),
    ),
    notes: bytes = b"",
    sections: dict[str, bytes] | None = None,
    symbols: tuple[str, ...] = (),
    contents: bytes = b"",
    kind: int = 2,
    machine: int = 62,
    osabi: int = 0,
    interpreter: str = "",
) -> bytes:
    """An ELF64 image: segments as (rights, address, size), notes, sections, symbol names."""
    body = bytearray(contents)
    headers: list[tuple[int, int, int, int, int, int]] = []
    count = len(loads) + bool(notes) + bool(interpreter)
    start = 64 + 56 * count
    for rights, address, size in loads:
        headers.append((PT_LOAD, rights, start, address, len(contents), size))

    def put(data: bytes) -> int:
        at = start + len(body)
        body.extend(data.ljust(-(-len(data) // 8) * 8, b"\0"))
        return at

    body.extend(bytes(-len(body) % 8))
    if notes:
        headers.append((PT_NOTE, R, put(notes), 0, len(notes), len(notes)))
    if interpreter:
        text = interpreter.encode() + b"\0"
        headers.append((PT_INTERP, R, put(text), 0, len(text), len(text)))
    names = {name: (1, data) for name, data in (sections or {}).items()}
    if symbols:
        names[".strtab"] = (3, b"\0" + b"".join(name.encode() + b"\0" for name in symbols))
    rows, text = [struct.pack("<IIQQQQIIQQ", *[0] * 10)], b"\0"
    for name, (type_, data) in names.items():
        rows.append(
            struct.pack("<IIQQQQIIQQ", len(text), type_, 0, 0, put(data), len(data), 0, 0, 1, 0)
        )
        text += name.encode() + b"\0"
    at = put(text + b".shstrtab\0")
    rows.append(struct.pack("<IIQQQQIIQQ", len(text), 3, 0, 0, at, len(text) + 10, 0, 0, 1, 0))
    table = put(b"".join(rows))
    ident = b"\x7fELF\x02\x01\x01" + bytes([osabi]) + bytes(8)
    head = ident + struct.pack(
        "<HHIQQQIHHHHHH",
        kind,
        machine,
        1,
        BASE,
        64,
        table,
        0,
        64,
        56,
        count,
        64,
        len(rows),
        len(rows) - 1,
    )
    program = b"".join(
        struct.pack("<IIQQQQQQ", type_, rights, offset, address, address, stored, size, 4)
        for type_, rights, offset, address, stored, size in headers
    )
    return head + program + bytes(body)


PVH = note("Xen", 18, struct.pack("<I", BASE))


def multiboot(flags: int = 0) -> bytes:
    """A multiboot header."""
    return struct.pack("<III", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF)


def bzimage(
    version: str = "", payload: bytes = b"", behind: bytes = b"", protocol: int = 0x20F
) -> bytes:
    """A boot sector, one sector of setup with its header, and a payload."""
    head = bytearray(1024)
    head[0x1F1] = 1
    head[510:512] = b"\x55\xaa"
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, protocol)
    if version:
        struct.pack_into("<H", head, 0x20E, 0x300 - 0x200)
        head[0x300 : 0x300 + len(version)] = version.encode()
    struct.pack_into("<II", head, 0x248, 0, len(payload))
    return bytes(head) + payload + behind


def pe(sections: dict[str, tuple[int, bytes]], subsystem: int = 10, machine: int = 0x8664) -> bytes:
    """A PE32+ image: sections as (flags, contents)."""
    start = 0x400
    head = b"MZ" + bytes(0x3A) + struct.pack("<I", 0x80)
    head = head.ljust(0x80, b"\0") + b"PE\0\0"
    head += struct.pack("<HHIIIHH", machine, len(sections), 0, 0, 0, 240, 0x22)
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<H", optional, 68, subsystem)
    head += bytes(optional)
    body = b""
    for name, (flags, data) in sections.items():
        head += struct.pack(
            "<8sIIIIIIHHI",
            name.encode(),
            len(data),
            0x1000,
            len(data),
            start + len(body),
            0,
            0,
            0,
            0,
            flags,
        )
        body += data
    return head.ljust(start, b"\0") + body


def mbr(*entries: tuple[int, int, int], code: bytes = b"\xeb\xfe") -> bytes:
    """A boot sector: partitions as (type, first sector, sectors)."""
    sector = bytearray(code.ljust(512, b"\0")[:512])
    for index, (kind, start, count) in enumerate(entries):
        struct.pack_into("<B3xB3xII", sector, 446 + 16 * index, 0, kind, start, count)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


def gpt(*entries: tuple[str, int, int, str], sectors: int = 128) -> bytes:
    """A disk with a protective MBR and a GPT: (type GUID, first, last sector, name)."""
    rows = b"".join(
        struct.pack("<16s16sQQQ72s", uuid.UUID(kind).bytes_le, uuid.uuid4().bytes, first, last, 0,
                    name.encode("utf-16-le"))
        for kind, first, last, name in entries
    ).ljust(128 * 128, b"\0")  # fmt: skip
    head = bytearray(struct.pack(
        "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, sectors - 1, 34, sectors - 34,
        uuid.uuid4().bytes, 2, 128, 128, zlib.crc32(rows),
    ))  # fmt: skip
    struct.pack_into("<I", head, 16, zlib.crc32(head))
    return (mbr((0xEE, 1, sectors - 1)) + bytes(head).ljust(512, b"\0") + rows).ljust(
        sectors * 512, b"\0"
    )


def nanos_disk() -> bytes:
    """A disk as Nanos's boot sector and mkfs lay it out: stage 2, log, boot partition, root."""
    length = 0x2000
    record = struct.pack("<QQI", 0x8000, length, 12)
    first = (512 + length + 4096) // 512
    sector = bytearray(mbr((0x83, first, 64), (0x83, first + 64, 64)))
    sector[0x1AA : 0x1AA + len(record)] = record
    disk = bytearray(bytes(sector).ljust((first + 128) * 512, b"\0"))
    disk[first * 512 : first * 512 + 6] = b"NVMTFS"
    return bytes(disk)


def qcow2(inside: bytes = b"", *, bits: int = 16, size: int = 1 << 20, backing: str = "") -> bytes:
    """A version 3 image with one L2 table, the clusters of `inside` from the start of the disk."""
    cluster = 1 << bits
    name = backing.encode()
    count = -(-len(inside) // cluster)
    head = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 112 if backing else 0, len(name), bits, size, 0,
        1, cluster, 0, 0, 0, 0, 0, 0, 0, 4, 104,
    )  # fmt: skip
    head = (head + bytes(8) + name).ljust(cluster, b"\0")
    one = struct.pack(">Q", 2 * cluster | 1 << 63).ljust(cluster, b"\0")
    two = b"".join(struct.pack(">Q", (3 + index) * cluster | 1 << 63) for index in range(count))
    return head + one + two.ljust(cluster, b"\0") + inside.ljust(count * cluster, b"\0")
