"""fanotify(7): a group, its marks, and answers to permission events, by ctypes.

Numbers are those of include/uapi/linux/fanotify.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct

from ringfence.errors import MissingError

CLOEXEC, NONBLOCK, CLASS_CONTENT, UNLIMITED_MARKS = 0x01, 0x02, 0x04, 0x20
REPORT_PIDFD, REPORT_TID, REPORT_FID, REPORT_DIR_FID = 0x80, 0x100, 0x200, 0x400
REPORT_NAME, REPORT_TARGET_FID = 0x800, 0x1000
DFID_NAME_TARGET = REPORT_FID | REPORT_DIR_FID | REPORT_NAME | REPORT_TARGET_FID

MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO = 0x02, 0x04, 0x08, 0x40, 0x80
CREATE, DELETE, MOVE_SELF, Q_OVERFLOW = 0x100, 0x200, 0x800, 0x4000
OPEN_PERM, OPEN_EXEC_PERM = 0x10000, 0x40000
EVENT_ON_CHILD, RENAME, ONDIR = 0x08000000, 0x10000000, 0x40000000
CHANGES = MODIFY | ATTRIB | CLOSE_WRITE | CREATE | DELETE | RENAME | ONDIR
"""All that changes a file or a folder. A mapping's writes come with CLOSE_WRITE alone."""

MARK_ADD, MARK_REMOVE, MARK_ONLYDIR, MARK_MOUNT, MARK_FILESYSTEM = 0x01, 0x02, 0x08, 0x10, 0x100
ALLOW, DENY = 0x01, 0x02
_RESPONSE = struct.Struct("=iI")
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | getattr(os, "O_LARGEFILE", 0)

_libc = ctypes.CDLL(None, use_errno=True)


class Group:
    """A notification group of this process: `fd`, and which features the kernel has.

    `pidfd`: events carry a descriptor of their process (Linux 5.15). `rename`: a rename is one
    event with both names (5.17).
    """

    def __init__(self) -> None:
        wanted = CLOEXEC | NONBLOCK | UNLIMITED_MARKS | DFID_NAME_TARGET
        for extra in (REPORT_PIDFD, 0):
            fd = _libc.fanotify_init(wanted | extra, _READ)
            if fd >= 0 or ctypes.get_errno() != errno.EINVAL:
                break
        if fd < 0:
            raise _refused(ctypes.get_errno())
        self.fd = fd
        self.pidfd = bool(extra)
        self.rename = True

    def mark(self, flags: int, folder: int, mask: int) -> None:
        """Mark what the descriptor `folder` is of. Raises OSError."""
        if not self.rename:
            mask = mask & ~RENAME | MOVED_FROM | MOVED_TO
        try:
            mark(self.fd, flags, folder, mask)
        except OSError as error:
            if error.errno != errno.EINVAL or not self.rename or not mask & RENAME:
                raise
            mark(self.fd, flags, folder, mask & ~RENAME | MOVED_FROM | MOVED_TO)
            self.rename = False

    def close(self) -> None:
        """Let go: the kernel removes all marks."""
        os.close(self.fd)


def permission_group() -> int:
    """A group for permission events, which tell the thread that waits for the answer; its
    descriptor is inherited by no one by itself. Raises MissingError."""
    wanted = CLOEXEC | NONBLOCK | CLASS_CONTENT | UNLIMITED_MARKS | REPORT_TID
    fd: int = _libc.fanotify_init(wanted, _READ)
    if fd < 0:
        raise _refused(ctypes.get_errno())
    return fd


def mark(group: int, flags: int, handle: int, mask: int) -> None:
    """fanotify_mark(2) on what a descriptor, also one of O_PATH, is of. Raises OSError."""
    place = b"/proc/self/fd/%d" % handle
    done = _libc.fanotify_mark(group, ctypes.c_uint(flags), ctypes.c_uint64(mask), -1, place)
    if done < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def answer(group: int, fd: int, response: int) -> bool:
    """Answer the permission event with the descriptor `fd`; whether one was waiting for it."""
    with contextlib.suppress(OSError):
        os.write(group, _RESPONSE.pack(fd, response))
        return True
    return False


def _refused(number: int) -> MissingError:
    if number == errno.EPERM:
        return MissingError("needs root (CAP_SYS_ADMIN)", where="fanotify",
                            remedy="`watch check` works without")  # fmt: skip
    why = os.strerror(number).lower()
    return MissingError(f"this kernel refuses: {why}", where="fanotify",
                        remedy="it takes Linux 5.17; `watch check` works without")  # fmt: skip
