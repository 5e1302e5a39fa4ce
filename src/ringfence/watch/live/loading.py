"""Whether it is the dynamic loader that opens a file: `ld.so PROGRAM`, LD_PRELOAD, dlopen(3).

What somebody can write to can be data when it is asked about, and a library a moment later. Logs
and databases are opened by others while they are written, libraries are not: the two are told apart
by the code that calls open(2), which while it waits is in /proc/PID/syscall (proc(5)).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator

AT_ENTRY, AT_BASE = 9, 7
"""Of include/uapi/linux/auxvec.h: where a program begins, and where its loader lies (0: it has
none, or is one)."""
NEAR = 4 << 20
"""Bytes from there, more than a loader has; libraries may lie as near."""
MOST_THREADS = 128
"""Of one process that are asked, each about 6 us."""
TRIES = 3
PAUSE = 0.00005
"""Seconds between tries: the kernel asks a moment before the thread that asked sleeps."""
MOST = 1 << 16
_WORDS = (struct.Struct("=QQ"), struct.Struct("=II"))


def by_loader(pid: int) -> bool:
    """Whether a thread of the process `pid` waits in a call that its loader has made. False, where
    that cannot be told, and of musl, whose loader and C library are one."""
    base, entry = loader(_read(pid, "auxv"))
    start = base or entry
    for _ in range(TRIES if start else 0):
        busy = False
        for thread in _threads(pid):
            caller = calling(_read(pid, f"task/{thread}/syscall"))
            busy |= caller == 0
            # A loader begins at its base; the libraries that it maps lie below that as a rule.
            if (0 if base else -NEAR) <= caller - start < NEAR:
                maps = _read(pid, "maps")
                file = mapped_at(maps, caller)
                if file == mapped_at(maps, start) and is_named_loader(file, alone=not base):
                    return True
        if not busy:
            return False
        time.sleep(PAUSE)
    return False


def loader(auxv: bytes) -> tuple[int, int]:
    """AT_BASE and AT_ENTRY of a /proc/PID/auxv of 64 or 32 bits; 0 for what is not there. Pure."""
    wide, narrow = _WORDS
    words = narrow if len(auxv) >= wide.size and wide.unpack_from(auxv)[0] >> 32 else wide
    whole = len(auxv) // words.size * words.size
    found = dict(words.iter_unpack(auxv[:whole]))
    return found.get(AT_BASE, 0), found.get(AT_ENTRY, 0)


def calling(syscall: bytes) -> int:
    """Where the code is that made the call, of a /proc/PID/syscall; 0: the thread is running, -1:
    it makes none, or that is not told. Pure."""
    words = syscall.split()
    if words == [b"running"]:
        return 0
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


def _threads(pid: int) -> Iterator[str]:
    try:
        yield from os.listdir(f"/proc/{pid}/task")[:MOST_THREADS]
    except OSError:
        return


def _read(pid: int, name: str) -> bytes:
    try:
        handle = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: os.read(handle, MOST), b""))
    except OSError:
        return b""
    finally:
        os.close(handle)
