"""Bytes of an image, read in pieces with a limit on all of them together. Input is hostile."""

from __future__ import annotations

import os
import struct
from typing import Protocol

from ringfence.errors import InputError

MOST_READ = 384 << 20
"""Bytes read of one image in all, whatever it claims to hold."""


class Content(Protocol):
    """What a source reads from: bytes, a stretch of a file, the disk inside a qcow2 image."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes: ...


class Cut(Exception):
    """The image ends, or points nowhere, where something was to be read."""


class Meter:
    """How much was read so far."""

    def __init__(self, limit: int = MOST_READ) -> None:
        self.limit = limit
        self.read = 0


class Source:
    """A part of an image. `base` is its offset in the file, added to what reports print."""

    def __init__(
        self, content: Content, name: str, *, base: int = 0, meter: Meter | None = None
    ) -> None:
        self.content = content
        self.name = name
        self.base = base
        self.meter = meter or Meter()
        self.size = len(content)

    def read(self, at: int, size: int) -> bytes:
        """Bytes from `at`, fewer at the end. Raises InputError past the limit of all reading."""
        stop = min(at + size, self.size)
        if at < 0 or stop <= at:
            return b""
        self.meter.read += stop - at
        if self.meter.read > self.meter.limit:
            limit = self.meter.limit >> 20
            raise InputError(f"more than {limit} MiB would have to be read", where=self.name)
        try:
            return bytes(self.content[at:stop])
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise InputError(f"cannot be read: {why}", where=self.name) from None

    def exactly(self, at: int, size: int) -> bytes:
        """`size` bytes from `at`. Raises Cut where the image has fewer."""
        data = self.read(at, size)
        if len(data) != size:
            raise Cut(f"{size} bytes at {at:#x} are beyond its end")
        return data

    def unpack(self, form: str, at: int) -> tuple[int, ...]:
        """Numbers at `at`, in a form of struct(3). Raises Cut."""
        return struct.unpack(form, self.exactly(at, struct.calcsize(form)))

    def part(self, at: int, size: int) -> Source:
        """`size` bytes from `at` as a source of their own, under the same limit."""
        start = min(max(at, 0), self.size)
        stop = min(start + max(size, 0), self.size)
        part = _Part(self.content, start, stop)
        return Source(part, self.name, base=self.base + start, meter=self.meter)

    def inside(self, data: Content, what: str) -> Source:
        """What was unpacked from this image, under the same limit; offsets are its own."""
        return Source(data, f"{self.name} ({what})", meter=self.meter)


class _Part:
    def __init__(self, content: Content, start: int, stop: int) -> None:
        self._content, self._start, self._stop = content, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, place: slice) -> bytes:
        start, stop, _ = place.indices(len(self))
        return bytes(self._content[self._start + start : self._start + stop])
