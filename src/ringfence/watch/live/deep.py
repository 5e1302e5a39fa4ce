"""Paths that are longer than the system calls take (PATH_MAX, 4,096 bytes with their end).

Folders may be made so deep, by steps, and the links of /proc/PID/fd cannot be read then. The names
of mappings have no such limit (proc(5), /proc/PID/maps), so a file that is open is mapped for that;
of its content nothing is read.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

MOST_TOLD = 4095
"""Bytes of a path in a record; of a longer one the end is left out."""
CUT = b"..."


def long_path(fd: int) -> bytes:
    """The path of an open file, however long; '' of one that is empty. Raises OSError."""
    if os.fstat(fd).st_size == 0:
        return b""
    # A private mapping may be writable whatever the file is; ctypes takes no other.
    with mmap.mmap(fd, 1, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapping:
        place = ctypes.c_char.from_buffer(mapping)
        begin = b"%08x-" % ctypes.addressof(place)
        del place  # a mapping that is referred to cannot be closed
        with open("/proc/self/maps", "rb") as maps:
            for line in maps:
                if line.startswith(begin):
                    return line.rstrip(b"\n").split(b" ", 5)[5].lstrip(b" ")
    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def named(path: bytes) -> bytes:
    """A path as a record has it: with a leading slash, and not longer than `MOST_TOLD` bytes."""
    path = b"/" + path.lstrip(b"/")
    return path if len(path) <= MOST_TOLD else path[: MOST_TOLD - len(CUT)] + CUT
