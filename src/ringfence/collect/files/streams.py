"""Byte sources for the tar reader: a plain file, a part of one, or a decompressor over either."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ringfence.collect.files.filebytes import FileBytes, Kept, of_file
from ringfence.errors import InputError

if TYPE_CHECKING:
    from zstandard import ZstdDecompressionObj

INPUT, OUTPUT = 1 << 14, 1 << 18
"""Compressed bytes taken at once, and the most that they are expanded to at once: a kilobyte of
bzip2 can stand for a gigabyte."""
ZSTD_INPUT = 1 << 9
"""The same for zstd, whose library gives all of it: 128 KiB at most for each four bytes."""
MOST_EXPANDED = 64 << 30
"""Bytes that one compressed stream, and all layers of an image together, may expand to: a bomb
stops here, images do not get there."""
MOST_TIMES, UNSUSPECTED = 2000, 1 << 30
"""How many times its own size a stream of more than so many bytes may expand to. gzip cannot give
more than 1,032 times."""

BUFFER = 1 << 16
"""Bytes read at once for headers and other small pieces."""


class Stretch:
    """A stretch of a plain file, or of bytes. Small reads come from a buffer."""

    def __init__(self, data: FileBytes | bytes, name: str, start: int, end: int) -> None:
        self.data = data
        self.name = name
        self.start = start
        self.end = end
        self._at = start
        self._buffer = b""
        self._buffered = start

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end."""
        part = self.peek(size)
        self._at += len(part)
        return part

    def peek(self, size: int) -> bytes:
        """The next `size` bytes without passing them, fewer only at the end."""
        stop = min(self._at + size, self.end)
        if stop <= self._at:
            return b""
        if stop - self._at > BUFFER:
            return self.data[self._at : stop]
        if not self._buffered <= self._at <= stop <= self._buffered + len(self._buffer):
            self._buffer = self.data[self._at : min(self._at + BUFFER, self.end)]
            self._buffered = self._at
        place = self._at - self._buffered
        return self._buffer[place : place + stop - self._at]

    def window(self, size: int) -> FileBytes | memoryview:
        """The next `size` bytes, not read yet, and not passed."""
        stop = min(self._at + size, self.end)
        if isinstance(self.data, bytes):
            return memoryview(self.data)[self._at : stop]
        return self.data.part(self._at, stop)

    def skip(self, size: int) -> None:
        """Pass over `size` bytes, perhaps beyond the end."""
        self._at += size

    def tell(self) -> int:
        """Bytes passed so far."""
        return self._at - self.start

    def at_end(self) -> bool:
        """Whether the stretch was not passed by more than it holds."""
        return self._at <= self.end

    def part(self, size: int) -> Stretch:
        """The next `size` bytes as a source of their own."""
        return Stretch(self.data, self.name, self._at, min(self._at + size, self.end))

    def digest(self) -> str:
        """SHA-256 of the whole stretch, in hexadecimal."""
        whole = Stretch(self.data, self.name, self.start, self.end)
        found = hashlib.sha256()
        while part := whole.read(1 << 20):
            found.update(part)
        return found.hexdigest()


class Expanded:
    """A decompressor over a stretch."""

    def __init__(self, chunks: Iterator[bytes], name: str) -> None:
        self.name = name
        self._chunks = chunks
        self._piece = b""
        self._at = 0
        self._passed = 0
        self._short = False

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end."""
        parts = []
        missing = size
        while missing > 0 and self._fill():
            part = self._piece[self._at : self._at + missing]
            self._at += len(part)
            parts.append(part)
            missing -= len(part)
        self._passed += size - missing
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Pass over `size` bytes; remembers if the end came first."""
        while size > 0:
            if not self._fill():
                self._short = True
                return
            part = min(size, len(self._piece) - self._at)
            self._at += part
            self._passed += part
            size -= part

    def tell(self) -> int:
        """Bytes passed so far."""
        return self._passed

    def at_end(self) -> bool:
        """Whether no skip ran into the end."""
        return not self._short

    def _fill(self) -> bool:
        if self._at == len(self._piece):
            self._piece, self._at = next(self._chunks, b""), 0
        return bool(self._piece)


def whole_file(path: Path) -> Stretch:
    """A plain file. Raises InputError when it is none or cannot be opened."""
    try:
        if not path.is_file():
            raise InputError("is not a plain file", where=str(path))
        data = of_file(Kept(path))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return Stretch(data, str(path), 0, len(data))


def expanded(source: Stretch) -> Stretch | Expanded:
    """`source` itself, or a decompressor where its first bytes name a compression."""
    head = source.peek(6)
    for magic, kind in KINDS.items():
        if head.startswith(magic):
            return Expanded(_bounded(_chunks(source, kind), source), source.name)
    return source


class _Stream(Protocol):
    """One stream being expanded: whether it has ended, and what was given beyond its end."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


def _deflated(stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    piece = b""
    while not stream.eof and (data or len(piece) == OUTPUT):
        piece = stream.decompress(data, OUTPUT)
        data = stream.unconsumed_tail
        yield piece


def _stepwise(stream: bz2.BZ2Decompressor | lzma.LZMADecompressor, data: bytes) -> Iterator[bytes]:
    yield stream.decompress(data, OUTPUT)
    while not stream.eof and not stream.needs_input:
        yield stream.decompress(b"", OUTPUT)


def _zstd() -> ZstdDecompressionObj:
    import zstandard  # only images with zstd layers need it

    return zstandard.ZstdDecompressor(max_window_size=128 << 20).decompressobj()


def _at_once(stream: ZstdDecompressionObj, data: bytes) -> Iterator[bytes]:
    yield stream.decompress(data)


class Kind(NamedTuple):
    """A compression. `start` begins a stream, and `feed` gives it data: what that expands to, in
    pieces. `most`: compressed bytes that are fed at once."""

    name: str
    start: Callable[[], _Stream]
    feed: Callable[[Any, bytes], Iterator[bytes]]
    most: int = INPUT


KINDS = {
    b"\x1f\x8b": Kind("gzip", lambda: zlib.decompressobj(wbits=31), _deflated),
    b"BZh": Kind("bzip2", bz2.BZ2Decompressor, _stepwise),
    b"\xfd7zXZ\0": Kind("xz", lambda: lzma.LZMADecompressor(memlimit=256 << 20), _stepwise),
    b"\x28\xb5\x2f\xfd": Kind("zstd", _zstd, _at_once, ZSTD_INPUT),
}
"""By a stream's first bytes."""


def _chunks(source: Stretch, kind: Kind) -> Iterator[bytes]:
    """Expanded pieces; several streams one after the other are one (as gzip and zstd allow)."""
    stream = kind.start()
    rest = b""
    while True:
        data = rest or source.read(kind.most)
        rest = b""
        if not data:
            if not stream.eof:
                raise InputError(
                    f"the {kind.name} stream is cut short",
                    where=source.name,
                    remedy="is the file whole? fetch it again",
                )
            return
        if stream.eof:
            if not data.strip(b"\0"):
                continue
            stream = kind.start()
        try:
            for piece in kind.feed(stream, data):
                if piece:
                    yield piece
        except Exception as error:  # each library has an error class of its own
            why = f"the {kind.name} stream is broken: {error}"
            raise InputError(why, where=source.name) from None
        if stream.eof:
            rest = stream.unused_data


def _bounded(chunks: Iterator[bytes], source: Stretch) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > MOST_EXPANDED:
            raise too_large(source.name)
        if total > UNSUSPECTED and total > MOST_TIMES * source.tell():
            raise InputError(
                f"expands to more than {MOST_TIMES} times its size", where=source.name,
                remedy="expand it to a file first, if you trust it",
            )  # fmt: skip
        yield chunk


def too_large(name: str) -> InputError:
    """The error for what expands to more than MOST_EXPANDED bytes."""
    return InputError(f"expands to more than {MOST_EXPANDED >> 30} GiB", where=name)
