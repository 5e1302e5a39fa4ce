"""Who holds a file of an overlay for writing, which its own inode does not tell.

overlayfs keeps what was changed in files of another folder, the upper layer, and a mapping holds
that file, not the overlay's: once the descriptor is closed, a lease on the overlay's inode is
granted while somebody still stores into the file, and stores into a dirty page leave ctime alone.
A lease on the upper layer's file is refused then. What is not in the upper layer is in a lower
one, and nobody can map that for writing through the overlay.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable

from ringfence.mountinfo import rows, unescaped
from ringfence.watch.baseline.opening import open_folder

OVERLAYFS = 0x794C7630
"""OVERLAYFS_SUPER_MAGIC of include/uapi/linux/magic.h."""
MOVING = 100_000_000
"""Nanoseconds: as long as ctime is so young, two files that change places can have the same."""
UNTOLD = "changed since the watch began, on an overlay that does not tell who may still write to it"
_STATFS = 256
"""Bytes, more than struct statfs has; f_type is the first word (statfs(2))."""

_libc = ctypes.CDLL(None, use_errno=True)


def upper_of(table: bytes, point: bytes) -> bytes:
    """Where the upper layer keeps what the overlay at `point` shows, by a mountinfo table; b'' for
    none, and for a path that only the process that mounted it can follow."""
    row = next((row for row in reversed(rows(table)) if row.point == point), None)
    if row is None or row.kind != b"overlay":
        return b""
    for option in row.of_all.split(b","):
        name, _, value = option.partition(b"=")
        if name == b"upperdir":
            path = unescaped(value)
            return (path + row.root).rstrip(b"/") if path.startswith(b"/") else b""
    return b""


def is_overlay(fd: int) -> bool:
    """Whether a file is on overlayfs."""
    buffer = ctypes.create_string_buffer(_STATFS)
    if _libc.fstatfs(fd, buffer) != 0:
        return False
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF == OVERLAYFS


class Layers:
    """The upper layer of a target's overlay: its path, b'' where that is unknown; `since`, in
    nanoseconds, is when the watch began; `written` asks a descriptor, as `ruling.written`."""

    def __init__(self, upper: bytes, since: int, written: Callable[[int], bool | None]) -> None:
        self.since, self._written = since, written
        self._upper = -1
        if upper:
            try:
                self._upper = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:  # it is in a mount namespace that is not ours
                self._upper = -1

    def held(self, path: bytes, info: os.stat_result) -> bool | None:
        """Whether the overlay's file at `path` from the target's root can still be written to by
        somebody. None: that cannot be told, and it has changed since the watch began."""
        found = self._upper_held(path, info) if self._upper >= 0 else None
        if found is None and info.st_ctime_ns < self.since:
            return False
        return found

    def _upper_held(self, path: bytes, info: os.stat_result) -> bool | None:
        if time.time_ns() - info.st_ctime_ns <= MOVING:
            return None
        folder, _, name = path.rpartition(b"/")
        try:
            above = open_folder(self._upper, folder)
            try:
                place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            finally:
                os.close(above)
        except OSError:
            return None
        try:
            return self._written_there(place) if _same(os.fstat(place), info) else None
        except OSError:
            return None
        finally:
            os.close(place)

    def _written_there(self, place: int) -> bool | None:
        # A regular file, as the overlay's is: opening it waits for nothing and starts no device.
        handle = os.open(b"/proc/self/fd/%d" % place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return self._written(handle)
        finally:
            os.close(handle)


def _same(there: os.stat_result, here: os.stat_result) -> bool:
    """Whether an upper layer's file is what the overlay shows: it may have another number and,
    where owners are mapped, another owner there."""
    return (there.st_mode, there.st_size, there.st_mtime_ns, there.st_ctime_ns) == (
        here.st_mode, here.st_size, here.st_mtime_ns, here.st_ctime_ns,
    )  # fmt: skip
