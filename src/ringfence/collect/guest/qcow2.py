"""qcow2 disks: the header, and the disk inside as bytes to read from.

https://www.qemu.org/docs/master/interop/qcow2.html. A backing file and an external data file are
named, never opened: a name in an image could be any file of this host.
"""

from __future__ import annotations

import functools
import zlib

import msgspec

from ringfence.collect.guest.source import Cut, Source

MAGIC = b"QFI\xfb"
LEAST_BITS, MOST_BITS = 9, 21
MOST_L1 = (32 << 20) // 8
MOST_NAME = 1023
EXTERNAL_DATA, COMPRESSION, EXTENDED_L2 = 1 << 2, 1 << 3, 1 << 4
KNOWN = 0b11111
OFFSET = 0x00FFFFFFFFFFFE00
COMPRESSED, ZERO = 1 << 62, 1
DATA_NAME = 0x44415441
MOST_EXTENSIONS = 64
ENCRYPTIONS = {1: "AES", 2: "LUKS"}


class Header(msgspec.Struct, frozen=True):
    """A sound header. `size` is that of the disk inside, in bytes; `closed` says why that disk
    cannot be read, '' if it can."""

    version: int
    bits: int
    size: int
    l1_count: int
    l1_offset: int
    snapshots: int
    backing: str
    data_file: str
    zstd: bool
    closed: str


def read_header(source: Source) -> Header:
    """The header of a qcow2 image. Raises Cut where it makes no sense."""
    magic, version, backing_at, backing_size, bits, size = source.unpack(">4sIQIIQ", 0)
    del magic
    method, l1_count, l1_offset = source.unpack(">IIQ", 32)
    (snapshots,) = source.unpack(">I", 60)
    if version not in (2, 3):
        raise Cut(f"version {version}")
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise Cut(f"clusters of 2^{bits} bytes")
    if size >= 1 << 62 or l1_count > MOST_L1 or l1_offset % (1 << bits):
        raise Cut(f"{size} bytes with {l1_count} L1 entries at {l1_offset:#x}")
    if l1_count < -(-size // (1 << (2 * bits - 3))) and version == 3:
        features = source.unpack(">Q", 72)[0]
        if not features & EXTENDED_L2:
            raise Cut(f"{l1_count} L1 entries are too few for {size} bytes")
    if backing_at and not 0 < backing_size <= MOST_NAME:
        raise Cut(f"a backing file name of {backing_size} bytes")
    backing = (
        source.exactly(backing_at, backing_size).decode("utf-8", "replace") if backing_at else ""
    )
    features, length, compression = 0, 72, 0
    if version == 3:
        features = source.unpack(">Q", 72)[0]
        (length,) = source.unpack(">I", 100)
        compression = source.exactly(104, 1)[0] if length > 104 else 0
    return Header(
        version=version,
        bits=bits,
        size=size,
        l1_count=l1_count,
        l1_offset=l1_offset,
        snapshots=snapshots,
        backing=backing,
        data_file=_data_file(source, length) if features & EXTERNAL_DATA else "",
        zstd=bool(features & COMPRESSION) and compression == 1,
        closed=_closed(features, method),
    )


def _closed(features: int, method: int) -> str:
    if method:
        return f"it is encrypted ({ENCRYPTIONS.get(method, f'method {method}')})"
    if features & EXTERNAL_DATA:
        return "its data stands in another file, which was not opened"
    if features & EXTENDED_L2:
        return "extended L2 entries are not read"
    if features & ~KNOWN:
        return f"unknown incompatible features {features & ~KNOWN:#x}"
    return ""


def _data_file(source: Source, at: int) -> str:
    """The name in the header extension, '' where there is none."""
    for _ in range(MOST_EXTENSIONS):
        kind, length = source.unpack(">II", at)
        if not kind:
            break
        if kind == DATA_NAME:
            return source.read(at + 8, min(length, MOST_NAME)).decode("utf-8", "replace")
        at += 8 + (length + 7) // 8 * 8
    return ""


class Inside:
    """The disk inside, read cluster by cluster; what is not allocated reads as zero bytes.

    A table or cluster that lies beyond the file raises Cut.
    """

    def __init__(self, source: Source, header: Header) -> None:
        self._source = source
        self._header = header
        self._cluster = functools.lru_cache(maxsize=8)(self._read_cluster)
        self._table = functools.lru_cache(maxsize=8)(self._read_table)

    def __len__(self) -> int:
        return self._header.size

    def __getitem__(self, place: slice) -> bytes:
        start, stop, _ = place.indices(len(self))
        size = 1 << self._header.bits
        parts = []
        while start < stop:
            within = start % size
            length = min(size - within, stop - start)
            data = self._cluster(start // size)
            parts.append(bytes(length) if data is None else data[within : within + length])
            start += length
        return b"".join(parts)

    def _read_table(self, index: int) -> bytes | None:
        """An L2 table by its place in the L1 table; None where none is allocated."""
        if index >= self._header.l1_count:
            raise Cut(f"L1 entry {index} of {self._header.l1_count}")
        (entry,) = self._source.unpack(">Q", self._header.l1_offset + 8 * index)
        offset = entry & OFFSET
        return self._source.exactly(offset, 1 << self._header.bits) if offset else None

    def _read_cluster(self, number: int) -> bytes | None:
        """The bytes of a cluster; None where it reads as zero bytes."""
        bits = self._header.bits
        table = self._table(number >> (bits - 3))
        if table is None:
            return None
        at = 8 * (number & ((1 << (bits - 3)) - 1))
        entry = int.from_bytes(table[at : at + 8], "big")
        if entry & COMPRESSED:
            return self._expanded(entry)
        offset = entry & OFFSET
        if not offset or (entry & ZERO and self._header.version == 3):
            return None
        data = self._source.read(offset, 1 << bits)
        if not data:
            raise Cut(f"cluster {number} at {offset:#x} is beyond the end of the file")
        return data.ljust(1 << bits, b"\0")

    def _expanded(self, entry: int) -> bytes:
        """A compressed cluster: its place in the low bits, its length in sectors above them."""
        split = 62 - (self._header.bits - 8)
        offset = entry & ((1 << split) - 1)
        sectors = (entry >> split) & ((1 << (62 - split)) - 1)
        data = self._source.read(offset, (sectors + 1) * 512 - offset % 512)
        size = 1 << self._header.bits
        try:
            expanded = _zstd(data, size) if self._header.zstd else _deflate(data, size)
        except zlib.error as error:
            raise Cut(f"a compressed cluster at {offset:#x} is broken: {error}") from None
        if len(expanded) != size:
            raise Cut(f"a compressed cluster at {offset:#x} is cut short")
        return expanded


def _deflate(data: bytes, size: int) -> bytes:
    return zlib.decompressobj(wbits=-12).decompress(data, size)


def _zstd(data: bytes, size: int) -> bytes:
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=128 << 20).stream_reader(data) as reader:
            return reader.read(size)
    except zstandard.ZstdError as error:
        raise Cut(f"a compressed cluster is broken: {error}") from None
