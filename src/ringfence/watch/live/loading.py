"""Whether it is the dynamic loader that opens a file: `ld.so PROGRAM`, LD_PRELOAD, dlopen(3).

What somebody can write to can be data when it is asked about, and a library a moment later. Logs
and databases are opened by others while they are written, libraries are not: the two are told apart
by the code that calls open(2), which while it waits is in /proc/PID/syscall (proc(5)).
"""

from __future__ import annotations

import os
import struct
import time

AT_ENTRY, AT_BASE = 9, 7
"""Of include/uapi/linux/auxvec.h: where a program begins, and where its loader lies (0: it has
none, or is one)."""
NEAR = 4 << 20
"""Bytes from there, more than a loader has; libraries may lie as near."""
PATIENCE = 0.05
"""Seconds until a thread sleeps that the kernel has asked for: it asks a moment before."""
PAUSE = 0.00005
RUNNING = 0
MOST = 1 << 16
_WORDS = (struct.Struct("=QQ"), struct.Struct("=II"))


def by_loader(thread: int) -> bool:
    """Whether a thread waits in a call that the loader of its process has made; also where it does
    not come to wait in time. False where nothing is told of it, and of musl, whose loader and C
    library are one."""
    base, entry = loader(_read(thread, "auxv"))
    start = base or entry
    if not start:
        return False
    caller = _caller(thread)
    if caller == RUNNING:
        return True
    # A loader begins at its base; the libraries that it maps lie below that as a rule.
    if not (0 if base else -NEAR) <= caller - start < NEAR:
        return False
    maps = _read(thread, "maps")
    file = mapped_at(maps, caller)
    return file == mapped_at(maps, start) and is_named_loader(file, alone=not base)


def _caller(thread: int) -> int:
    """What `calling` says of a thread that is about to sleep."""
    limit = time.monotonic() + PATIENCE
    while (found := calling(_read(thread, "syscall"))) == RUNNING and time.monotonic() < limit:
        time.sleep(PAUSE)
    return found


def loader(auxv: bytes) -> tuple[int, int]:
    """AT_BASE and AT_ENTRY of a /proc/PID/auxv of 64 or 32 bits; 0 for what is not there. Pure."""
    wide, narrow = _WORDS
    words = narrow if len(auxv) >= wide.size and wide.unpack_from(auxv)[0] >> 32 else wide
    whole = len(auxv) // words.size * words.size
    found = dict(words.iter_unpack(auxv[:whole]))
    return found.get(AT_BASE, 0), found.get(AT_ENTRY, 0)


def calling(syscall: bytes) -> int:
    """Where the code is that made the call of a /proc/PID/syscall; `RUNNING`: the thread does not
    sleep, -1: it makes no call, or that is not told. Pure."""
    words = syscall.split()
    if words == [b"running"]:
        return RUNNING
    return int(words[-1], 16) if len(words) == 9 else -1


def mapped_at(maps: bytes, place: int) -> bytes:
    """The file that a /proc/PID/maps has at an address, b'' for none. Pure."""
    for line in maps.split(b"\n"):
        words = line.split(None, 5)
        if len(words) == 6:
            first, _, last = words[0].partition(b"-")
            if int(first, 16) <= place < int(last, 16):
                return words[5]
    return b""


def is_named_loader(file: bytes, *, alone: bool) -> bool:
    """Whether a file that lies where a loader would is one. `alone`: the program has no loader, so
    it is one itself, or static. Pure."""
    name = file.rpartition(b"/")[2]
    if b"musl" in name:
        return False
    return name.startswith(b"ld") and b".so" in name if alone else bool(name)


def _read(thread: int, name: str) -> bytes:
    try:
        handle = os.open(f"/proc/{thread}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: os.read(handle, MOST), b""))
    except OSError:
        return b""
    finally:
        os.close(handle)
