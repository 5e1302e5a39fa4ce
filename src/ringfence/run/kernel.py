"""The few system calls that Python's standard library has no function for."""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 1 << 18, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAPABILITY_VERSION_3 = 0x20080522
SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread. Raises OSError."""
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError with the target as its file name."""
    words = [os.fsencode(word) if word else None for word in (source, target, kind)]
    options = os.fsencode(data) if data else None
    _checked(_libc.mount(*words, ctypes.c_ulong(flags), options), target)


def unmount(target: str) -> None:
    """umount2(2) with MNT_DETACH. Raises OSError."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), target)


def adopt_orphans(adopt: bool) -> None:
    """Whether what an engine leaves behind becomes our child, so that its end can be waited for."""
    _checked(_libc.prctl(PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0), "prctl")


def die_with_parent() -> None:
    """This process is killed when the thread that made it ends."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "prctl")


def undumpable() -> None:
    """This process and its children may be looked into by the first user namespace's root alone."""
    _checked(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl")


def keep_capabilities() -> None:
    """What this process may now it may after executing a program, too: all its permitted
    capabilities become inheritable and ambient (capabilities(7))."""
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    _checked(_libc.capget(header, data), "capget")
    low = struct.unpack_from("=3I", data.raw, 0)
    high = struct.unpack_from("=3I", data.raw, 12)
    wanted = struct.pack("=6I", low[0], low[1], low[1], high[0], high[1], high[1])
    _checked(_libc.capset(header, wanted), "capset")
    permitted = low[1] | high[1] << 32
    for bit in range(permitted.bit_length()):
        if permitted >> bit & 1:
            _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, bit, 0, 0)
