"""A stretch of an open plain file as bytes: each slice is read where it lies, when it is asked for.

No mapping: whoever shortens a mapped file ends its reader (SIGBUS), and input is hostile.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class Open(Protocol):
    """What knows its open descriptor."""

    def fileno(self) -> int:
        """The descriptor's number."""
        ...


class Kept:
    """A file open for reading until nobody refers to it any more: archives outlive their opener."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def fileno(self) -> int:
        """The descriptor's number."""
        return self._handle

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)


class FileBytes:
    """Bytes `start` to `end` of an open file."""

    def __init__(self, file: Open, start: int, end: int) -> None:
        self._file = file
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, place: slice) -> bytes:
        start, stop, _ = place.indices(len(self))
        return os.pread(self._file.fileno(), max(0, stop - start), self._start + start)

    def __bytes__(self) -> bytes:
        return self[:]

    def part(self, start: int, end: int) -> FileBytes:
        """Bytes `start` to `end` of these, not read yet."""
        return FileBytes(self._file, self._start + start, min(self._start + end, self._end))


def of_file(file: Open) -> FileBytes:
    """All bytes of an open file, as long as it is now."""
    return FileBytes(file, 0, os.fstat(file.fileno()).st_size)
