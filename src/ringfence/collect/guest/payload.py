"""The compressed kernel inside a boot image, expanded with a limit.

Formats as in the kernel's scripts/Makefile.lib; LZ4 is its legacy format (blocks of 8 MiB, each
with its length), https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator

from ringfence.collect.guest.source import Cut

MOST_EXPANDED = 160 << 20
MOST_MEMORY = 256 << 20
LZ4_BLOCK = 8 << 20
INPUT, OUTPUT = 1 << 16, 1 << 20
"""Bytes taken and given at once: a bomb never expands as a whole."""


def expand(data: bytes) -> tuple[str, bytes]:
    """The name of the compression and what `data` expands to; bytes behind it are left alone.

    Raises Cut for a compression that is not known, a broken stream, or more than MOST_EXPANDED.
    """
    name, pieces = _opened(data)
    parts, total = [], 0
    for piece in pieces:
        total += len(piece)
        if total > MOST_EXPANDED:
            raise Cut(f"its {name} stream expands to more than {MOST_EXPANDED >> 20} MiB")
        parts.append(piece)
    return name, b"".join(parts)


def begin(data: bytes, size: int) -> bytes:
    """The first `size` bytes, or fewer, of what `data` expands to; none where it does not."""
    found = b""
    try:
        for piece in _opened(data)[1]:
            found += piece[: size - len(found)]
            if len(found) >= size:
                break
    except Cut:
        pass
    return found


def _opened(data: bytes) -> tuple[str, Iterator[bytes]]:
    for magic, name, pieces in _FORMATS:
        if data.startswith(magic):
            return name, _checked(name, pieces(data))
    raise Cut(f"its compression is not known (it begins with {data[:4].hex()})")


def _checked(name: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise Cut(f"its {name} stream is broken: {error}") from None


def _gzip(data: bytes) -> Iterator[bytes]:
    """Deflate expands at most a thousandfold: small pieces of input are bound enough."""
    engine = zlib.decompressobj(wbits=31)
    for at in range(0, len(data), INPUT):
        yield engine.decompress(data[at : at + INPUT])
        if engine.eof:
            return
    raise Cut("its gzip stream is cut short")


def _bzip2(data: bytes) -> Iterator[bytes]:
    return _stepwise(bz2.BZ2Decompressor(), data)


def _xz(data: bytes) -> Iterator[bytes]:
    return _stepwise(lzma.LZMADecompressor(memlimit=MOST_MEMORY), data)


def _stepwise(engine: bz2.BZ2Decompressor | lzma.LZMADecompressor, data: bytes) -> Iterator[bytes]:
    while not engine.eof:
        piece = engine.decompress(data, OUTPUT)
        data = b""
        if not piece and engine.needs_input:
            raise Cut("its stream is cut short")
        yield piece


def _zstd(data: bytes) -> Iterator[bytes]:
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=128 << 20).stream_reader(data) as reader:
            while piece := reader.read(OUTPUT):
                yield piece
    except zstandard.ZstdError as error:
        raise Cut(f"its zstd stream is broken: {error}") from None


def _lz4(data: bytes) -> Iterator[bytes]:
    import lz4.block  # type: ignore[import-untyped]

    at = 4
    # Four bytes remain at the end: the build appends the size of what was compressed.
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        block = data[at + 4 : at + 4 + length]
        if len(block) < length:
            raise Cut("its lz4 stream is cut short")
        try:
            yield lz4.block.decompress(block, uncompressed_size=LZ4_BLOCK)
        except (lz4.block.LZ4BlockError, OverflowError) as error:
            raise Cut(f"its lz4 stream is broken: {error}") from None
        at += 4 + length


_FORMATS: tuple[tuple[bytes, str, Callable[[bytes], Iterator[bytes]]], ...] = (
    (b"\x1f\x8b", "gzip", _gzip),
    (b"BZh", "bzip2", _bzip2),
    (b"\xfd7zXZ\0", "xz", _xz),
    (b"\x5d\0\0", "lzma", _xz),
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
    (b"\x02\x21\x4c\x18", "lz4", _lz4),
)
