"""Raw disks: MBR and GPT partition tables, file systems by their magic, boot sectors.

MBR: https://wiki.osdev.org/MBR_(x86). GPT: https://uefi.org/specs/UEFI/2.10/05_GUID_Partition_Table_Format.html.
Nanos writes a record into its boot sector (platform/pc/boot/stage1.s): base, length and type of
its second stage, by which the first partition is found.
"""

from __future__ import annotations

import uuid
import zlib

import msgspec

from ringfence.collect.guest.marks import Reading
from ringfence.collect.guest.source import Cut, Source
from ringfence.knowledge.guests import Guests

SECTOR = 512
TABLE, ENTRY = 446, 16
EXTENDED = frozenset({0x05, 0x0F, 0x85})
PROTECTIVE = 0xEE
GPT_MAGIC = b"EFI PART"
MOST_LOGICAL = 64
MOST_GPT = 256
NANOS_RECORD, NANOS_STAGE2, NANOS_TYPE = 0x1AA, 0x8000, 12
NANOS_LOG = 4096
MOST_STAGE2 = 16 << 20


class Partition(msgspec.Struct, frozen=True):
    """A partition: `type` is two hexadecimal digits or a GUID, `start` and `size` in bytes."""

    type: str
    start: int
    size: int
    name: str = ""


def is_disk(source: Source, guests: Guests) -> bool:
    """Whether there is a boot sector, with a partition table or without, or a file system from the
    first byte on."""
    try:
        return source.read(510, 2) == b"\x55\xaa" or _filesystem(source, 0, guests) is not None
    except Cut:
        return False


def read_disk(source: Source, guests: Guests, reading: Reading) -> tuple[Partition, ...]:
    """The partitions, noted in `reading` with their file systems. Raises Cut."""
    if source.read(510, 2) == b"\x55\xaa" and any(source.read(0, 16)):
        reading.mark("magic:boot-sector", source, 510, "code in a boot sector with 55 aa")
    if _is_nanos(source):
        reading.mark("magic:nanos-boot", source, NANOS_RECORD, "Nanos's record of its stage 2")
    partitions = _mbr(source)
    table = "MBR"
    if any(item.type == f"{PROTECTIVE:02x}" for item in partitions):
        partitions, table = _gpt(source), "GPT"
    titles = {item.id: item.title for item in guests.partition}
    count = len(partitions)
    reading.fact("disk", source, TABLE, f"{source.size:,} bytes, {table} with {count} partitions"
                 if partitions else f"{source.size:,} bytes, no partition table")  # fmt: skip
    for index, item in enumerate(partitions, 1):
        found = _mark_filesystem(source, item.start, guests, reading)
        words = [titles.get(item.type, f"type {item.type}"), f"{item.size:,} bytes", found]
        reading.fact(f"partition {index}", source, item.start, ", ".join(filter(None, words)))
    if not partitions:
        found = _mark_filesystem(source, 0, guests, reading)
        if found:
            reading.fact("file system", source, 0, found)
    return partitions


def _mark_filesystem(source: Source, start: int, guests: Guests, reading: Reading) -> str:
    found = _filesystem(source, start, guests)
    if found is None:
        return ""
    name, title, at = found
    reading.mark(f"filesystem:{name}", source, at, f"magic of {title}")
    return title


def _filesystem(source: Source, start: int, guests: Guests) -> tuple[str, str, int] | None:
    """(id, title, offset of the magic) of the file system that begins at `start`."""
    for item in guests.filesystem:
        magic = bytes.fromhex(item.magic)
        if source.read(start + item.offset, len(magic)) == magic:
            return item.id, item.title, start + item.offset
    return None


def _mbr(source: Source) -> tuple[Partition, ...]:
    """The entries of a sound MBR, logical ones too; none where it is not sound."""
    sector = source.read(0, SECTOR)
    if sector[510:512] != b"\x55\xaa":
        return ()
    entries = [sector[TABLE + ENTRY * index :][:ENTRY] for index in range(4)]
    if any(entry[0] not in (0, 0x80) for entry in entries):
        return ()
    found: list[Partition] = []
    for entry in entries:
        kind, start, size = _entry(entry)
        if kind in EXTENDED:
            found += _logical(source, start)
        elif kind and size:
            found.append(Partition(f"{kind:02x}", start, size))
    return tuple(found)


def _entry(entry: bytes) -> tuple[int, int, int]:
    """(type, start, size in bytes) of an entry."""
    start, count = (int.from_bytes(entry[at : at + 4], "little") for at in (8, 12))
    return entry[4], start * SECTOR, count * SECTOR


def _logical(source: Source, base: int) -> list[Partition]:
    """The chain of logical partitions; one that leads backwards, or too far, ends there."""
    found: list[Partition] = []
    at = base
    seen: set[int] = set()
    while at not in seen and len(seen) < MOST_LOGICAL:
        seen.add(at)
        sector = source.read(at, SECTOR)
        if sector[510:512] != b"\x55\xaa":
            break
        kind, start, size = _entry(sector[TABLE:][:ENTRY])
        if kind and size:
            found.append(Partition(f"{kind:02x}", at + start, size))
        kind, start, _ = _entry(sector[TABLE + ENTRY :][:ENTRY])
        if kind not in EXTENDED:
            break
        at = base + start
    return found


def _gpt(source: Source) -> tuple[Partition, ...]:
    """The entries of the primary table, whose header must have its checksum. Raises Cut."""
    for sector in (SECTOR, 4096):
        if source.read(sector, 8) == GPT_MAGIC:
            return _gpt_entries(source, sector)
    raise Cut("a protective MBR without a GPT behind it")


def _gpt_entries(source: Source, sector: int) -> tuple[Partition, ...]:
    size, checksum = source.unpack("<II", sector + 12)
    if not 92 <= size <= sector:
        raise Cut(f"GPT header of {size} bytes")
    header = bytearray(source.exactly(sector, size))
    header[16:20] = bytes(4)
    if zlib.crc32(header) != checksum:
        raise Cut("the GPT header does not have its checksum")
    first, count, length = source.unpack("<QII", sector + 72)
    if not 128 <= length <= 4096:
        raise Cut(f"GPT entries of {length} bytes")
    found = []
    for index in range(min(count, MOST_GPT)):
        entry = source.exactly(first * sector + index * length, 128)
        kind = uuid.UUID(bytes_le=entry[:16])
        start, last = (int.from_bytes(entry[at : at + 8], "little") for at in (32, 40))
        if kind.int and start <= last:
            name = entry[56:128].decode("utf-16-le", "replace").split("\0", 1)[0]
            found.append(Partition(str(kind), start * sector, (last - start + 1) * sector, name))
    return tuple(found)


def _is_nanos(source: Source) -> bool:
    """Whether sector 0 holds the record: base 0x8000, a length in sectors, type 12."""
    sector = source.read(0, SECTOR)
    if len(sector) < SECTOR or sector[510:] != b"\x55\xaa":
        return False
    base, length = (
        int.from_bytes(sector[at : at + 8], "little") for at in (NANOS_RECORD, NANOS_RECORD + 8)
    )
    kind = int.from_bytes(sector[NANOS_RECORD + 16 : NANOS_RECORD + 20], "little")
    sound = 0 < length <= MOST_STAGE2 and length % SECTOR == 0
    return base == NANOS_STAGE2 and kind == NANOS_TYPE and sound
