"""Mounts of a worker's own, on which no device can be opened.

In a mount namespace of this process alone (unshare(2)) every mount gets the flag nodev
(mount_setattr(2), Linux 5.12): whatever is swapped in for a file, opening it as a device fails
with EACCES. Nothing changes for any other process.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
SYS_MOUNT_SETATTR = 442
"""The same number on every architecture (asm-generic/unistd.h)."""
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_NODEV = 0x4


class _Attributes(ctypes.Structure):
    """struct mount_attr of linux/mount.h."""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


def without_devices() -> bool:
    """Make it so for this process, for good. False where the kernel refuses, as without root."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        return False
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return False
    wanted = _Attributes(set=MOUNT_ATTR_NODEV)
    refused: int = libc.syscall(
        SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(wanted), ctypes.sizeof(wanted)
    )
    return refused == 0


def same_folder(path: str, handle: int) -> int | None:
    """A descriptor of the folder at `path`, seen through this process's own mounts, if it is
    the one that `handle` holds."""
    try:
        found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    own, other = os.fstat(found), os.fstat(handle)
    if (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino):
        return found
    os.close(found)
    return None
