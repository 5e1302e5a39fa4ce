"""Whether it is the dynamic loader that loads a file: `ld.so PROGRAM`, LD_PRELOAD, dlopen(3).

What somebody can write to can be data when it is asked about, and a library a moment later. Logs
and databases are opened by others while they are written, libraries are not: the two are told apart
by the code that calls open(2), which while it waits is in /proc/PID/syscall (proc(5)).

The loader also reads two files that are no code, /etc/ld.so.cache and /etc/ld.so.preload: their
names are in its own read-only memory, those of what it loads on a stack or a heap. So they are told
apart wherever they are, and whoever owns them, as a rootless container's root does.
"""

from __future__ import annotations

import os
import struct

AT_ENTRY, AT_BASE = 9, 7
"""Of include/uapi/linux/auxvec.h: where a program begins, and where its loader lies (0: it has
none, or is one)."""
NEAR = 4 << 20
"""Bytes from there, more than a loader has; libraries may lie as near."""
RUNNING = 0
MOST = 1 << 16
_WORDS = (struct.Struct("=QQ"), struct.Struct("=II"))


def by_loader(thread: int) -> bool | None:
    """Whether a thread waits in a call by which the loader of its process loads a file. None: it
    does not sleep yet, for the kernel asks a moment before. False where nothing is told of it, and
    of musl, whose loader and C library are one."""
    call = _read(thread, "syscall")
    caller = calling(call)
    if caller == RUNNING:
        return None
    base, entry = loader(_read(thread, "auxv"))
    start = base or entry
    # A loader begins at its base; the libraries that it maps lie below that as a rule.
    if not start or not (0 if base else -NEAR) <= caller - start < NEAR:
        return False
    maps = _read(thread, "maps")
    file = mapped_at(maps, caller)
    if file != mapped_at(maps, start) or not is_named_loader(file, alone=not base):
        return False
    # open(2) has the name as its first argument, openat(2) as its second.
    return not any(mapped_at(maps, place, fixed=True) == file for place in arguments(call)[:2])


def asleep(thread: int) -> bool:
    """Whether `by_loader` has an answer of a thread, or none is to come."""
    return calling(_read(thread, "syscall")) != RUNNING


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


def arguments(syscall: bytes) -> list[int]:
    """The six arguments of the call of a /proc/PID/syscall; none where there is no call. Pure."""
    words = syscall.split()
    return [int(word, 16) for word in words[1:7]] if len(words) == 9 else []


def mapped_at(maps: bytes, place: int, *, fixed: bool = False) -> bytes:
    """The file that a /proc/PID/maps has at an address, b'' for none. `fixed`: only if it is not
    writable there, as the heap is that the loader begins in the rest of its last page. Pure."""
    for line in maps.split(b"\n"):
        words = line.split(None, 5)
        if len(words) == 6:
            first, _, last = words[0].partition(b"-")
            if int(first, 16) <= place < int(last, 16):
                return b"" if fixed and b"w" in words[1] else words[5]
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
