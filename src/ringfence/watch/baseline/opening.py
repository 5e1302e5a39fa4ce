"""Opens folders below a held descriptor: no symlink is followed, no mount and no `..` crossed.

openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_XDEV does it in one call; on
kernels before 5.6, or where a filter refuses the call, each part of the path is opened from the
one before it. Neither can be led out of the tree by a rename or a symlink made meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import os

SYS_OPENAT2 = 437
"""The same number on every architecture (asm-generic/unistd.h)."""
NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH = 0x01, 0x02, 0x04, 0x08
MOST_PART = 4000
"""Bytes of a path in one call; the kernel takes 4,095."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_absent = False


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_STRICT = BENEATH | NO_SYMLINKS | NO_MAGICLINKS
_HOWS = {mounts: _How(FOLDER, 0, _STRICT | (0 if mounts else NO_XDEV)) for mounts in (True, False)}
_POINTERS = {mounts: ctypes.byref(how) for mounts, how in _HOWS.items()}
_SIZE = ctypes.sizeof(_How)


def open_folder(root: int, path: bytes, *, mounts: bool = False) -> int:
    """A descriptor of the folder at `path` below the folder `root`; '' is `root` itself.

    With `mounts`, mount points may be crossed. Raises OSError: EXDEV for a mount point, ELOOP or
    ENOTDIR for what is no folder.
    """
    handle = root
    for part in _parts(path):
        try:
            below = _open_part(handle, part, mounts)
        finally:
            if handle != root:
                os.close(handle)
        handle = below
    return os.open(b".", FOLDER, dir_fd=root) if handle == root else handle


def _parts(path: bytes) -> list[bytes]:
    """`path` in pieces that fit into one call each."""
    parts = []
    while len(path) > MOST_PART:
        cut = path.rfind(b"/", 0, MOST_PART)
        parts.append(path[:cut])
        path = path[cut + 1 :]
    return [*parts, path] if path else parts


def _open_part(root: int, path: bytes, mounts: bool) -> int:
    global _absent
    if _absent:
        return _one_by_one(root, path, mounts)
    for _ in range(16):
        found: int = _syscall(SYS_OPENAT2, root, path, _POINTERS[mounts], _SIZE)
        if found >= 0:
            return found
        number = ctypes.get_errno()
        if number != errno.EAGAIN:  # something was renamed meanwhile: ask again
            break
    if number in (errno.ENOSYS, errno.EPERM):
        _absent = True
        return _one_by_one(root, path, mounts)
    raise OSError(number, os.strerror(number), path)


def _one_by_one(root: int, path: bytes, mounts: bool) -> int:
    """The same with one open for each name. Mounts of the same file system are not told apart."""
    handle = os.dup(root)
    device = os.fstat(root).st_dev
    for name in path.split(b"/"):
        try:
            below = os.open(name, FOLDER, dir_fd=handle)
        finally:
            os.close(handle)
        handle = below
        if not mounts and os.fstat(handle).st_dev != device:
            os.close(handle)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    return handle
