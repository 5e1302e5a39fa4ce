"""A private view of a folder, in which no device, no symlink and no other mount can be opened.

open_tree(2) with OPEN_TREE_CLONE (Linux 5.2) gives a mount of its own of one folder, which is
attached nowhere and holds no other mount; mount_setattr(2) makes it nodev and nosymfollow (5.14).
Whatever is swapped in for a file there, opening it as a device fails with EACCES, and what is
swapped in for a folder leads nowhere else. Nothing changes for anybody who looks at the tree.
"""

from __future__ import annotations

import ctypes
import os

SYS_OPEN_TREE, SYS_MOUNT_SETATTR = 428, 442
"""The same numbers on every architecture (asm-generic/unistd.h)."""
AT_EMPTY_PATH, OPEN_TREE_CLONE = 0x1000, 0x1
NODEV, NOSYMFOLLOW = 0x4, 0x200000


class _Attributes(ctypes.Structure):
    """struct mount_attr of linux/mount.h."""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


def private_view(folder: int) -> int | None:
    """A descriptor (O_PATH) of the folder that `folder` holds, in a view of this process's own.

    None where the kernel refuses: without root, or for what another mount namespace has.
    """
    call = ctypes.CDLL(None, use_errno=True).syscall
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH
    view: int = call(SYS_OPEN_TREE, folder, b"", flags)
    if view < 0:
        return None
    wanted = _Attributes(set=NODEV | NOSYMFOLLOW)
    size = ctypes.sizeof(wanted)
    if call(SYS_MOUNT_SETATTR, view, b"", AT_EMPTY_PATH, ctypes.byref(wanted), size) != 0:
        os.close(view)
        return None
    return view
