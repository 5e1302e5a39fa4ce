"""The guest's physical memory: a file of ours without a name, which QEMU maps and we read.

Read with pread, not mapped: whoever shortens a mapped file ends its reader. The file is sealed
against that, too.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re

import msgspec

from ringfence.errors import MissingError

_RAM = re.compile(
    r"^  ([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (?:ram|rom)\): ram(?: @([0-9a-f]{16}))?",
    re.MULTILINE,
)
_VIEW = re.compile(r"^FlatView #\d+$", re.MULTILINE)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Piece(msgspec.Struct, frozen=True):
    """Physical addresses `start` to `end` (exclusive) lie in the memory file from `offset` on."""

    start: int
    end: int
    offset: int


def pieces(text: str) -> tuple[Piece, ...]:
    """Where the memory of the first processor lies, from QEMU's `info mtree -f`."""
    for view in _VIEW.split(text):
        if ' AS "cpu-memory-0"' in view:
            return tuple(
                Piece(int(start, 16), int(end, 16) + 1, int(offset or "0", 16))
                for start, end, offset in _RAM.findall(view)
            )
    return ()


def _refused(size: int, error: OSError) -> MissingError:
    return MissingError(
        f"no {size >> 20} MiB for the guest: {os.strerror(error.errno or errno.EIO).lower()}",
        where="memory", remedy="raise the limits of open files and file size, or lower --memory",
    )  # fmt: skip


class Memory:
    """`size` bytes of guest memory, all zero. Close it when QEMU has ended. Raises MissingError
    where this host gives us no file of that size."""

    def __init__(self, size: int) -> None:
        self.size = size
        try:
            self.handle = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise _refused(size, error) from None
        try:
            os.ftruncate(self.handle, size)
            fcntl.fcntl(self.handle, fcntl.F_ADD_SEALS, _SEALS)
        except OSError as error:
            os.close(self.handle)
            raise _refused(size, error) from None
        self.pieces: tuple[Piece, ...] = (Piece(0, size, 0),)

    def read(self, address: int, length: int) -> bytes | None:
        """Bytes at a physical address; None where that stretch is not memory."""
        for piece in self.pieces:
            if piece.start <= address and address + length <= piece.end:
                data = os.pread(self.handle, length, piece.offset + address - piece.start)
                return data if len(data) == length else None
        return None

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.handle)
