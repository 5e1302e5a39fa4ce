"""File handles, by which fanotify names files: name_to_handle_at(2), open_by_handle_at(2).

A key is what an event carries: 8 bytes of file system id, 4 of the handle's length, 4 of its type,
and the handle (struct fanotify_event_info_fid).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

AT_EMPTY_PATH, AT_HANDLE_FID = 0x1000, 0x200
MOST_HANDLE = 128
"""MAX_HANDLE_SZ of include/linux/exportfs.h."""
_HEAD = struct.Struct("=Ii")

_libc = ctypes.CDLL(None, use_errno=True)


def key_of(handle: int) -> bytes:
    """The key of the file that a descriptor is of. Raises OSError where it can have none."""
    buffer = ctypes.create_string_buffer(_HEAD.size + MOST_HANDLE)
    mount = ctypes.c_int()
    # AT_HANDLE_FID (Linux 6.5) is what fanotify does, also where a file system has no real ones.
    for flags in (AT_EMPTY_PATH | AT_HANDLE_FID, AT_EMPTY_PATH):
        _HEAD.pack_into(buffer, 0, MOST_HANDLE, 0)
        if _libc.name_to_handle_at(handle, b"", buffer, ctypes.byref(mount), flags) == 0:
            length, _ = _HEAD.unpack_from(buffer)
            identity = os.fstatvfs(handle).f_fsid
            return identity.to_bytes(8, "little") + buffer.raw[: _HEAD.size + length]
        if ctypes.get_errno() != errno.EINVAL:
            break
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def open_key(mount: int, key: bytes) -> int:
    """A descriptor of O_PATH of the file `key` on the mount of `mount`. Raises OSError."""
    buffer = ctypes.create_string_buffer(key[8:], max(len(key) - 8, _HEAD.size))
    fd: int = _libc.open_by_handle_at(mount, buffer, os.O_PATH | os.O_CLOEXEC)
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd
