"""A process as /proc shows it at one moment (proc(5)): what can change meanwhile is compared.

A process keeps its number when it executes another program, and a number is given to another
process later: what is read in several steps may be of several of them.
"""

from __future__ import annotations

import os
import time

import msgspec

from ringfence.collect.process import procfs
from ringfence.watch.live.cmdline import MOST_COMMAND

MOST_TABLE = 1 << 16
PF_EXITING = 0x4
"""linux/sched.h, of the flags in /proc/PID/stat: it has no executable any more, some time before
its state says so."""
_TICKS = os.sysconf("SC_CLK_TCK")
TRIES = 3
"""Looks at a process that becomes another program meanwhile."""


class Stat(msgspec.Struct, frozen=True):
    """Of /proc/PID/stat: `started` in clock ticks since boot, `arguments` the address of the
    command line, which a new program nearly always has elsewhere, and which is 0 while there is
    none: in the midst of execve(2), or of a thread of the kernel's."""

    name: str
    parent: int
    started: int
    arguments: int
    ended: bool = False
    """This thread is about to end, or has, and only waits to be collected."""


class Look(msgspec.Struct, frozen=True):
    """What was seen. `stat` is the process's, `arguments` that of a thread that lives; `file` is
    the executable's device and inode, None where there is none, and then `why` says why.

    `uid` is the real user id, `fsuid` that by which the kernel decides about files, and which new
    ones belong to (credentials(7)). `torn`: it became another program while it was looked at.
    """

    stat: Stat
    arguments: int
    executable: str
    file: tuple[int, int] | None
    why: str
    command: bytes
    uid: int | None
    fsuid: int | None
    namespace: str
    parent: str
    torn: bool = False

    def same_process(self, other: Look) -> bool:
        """Whether both are of one process, which may have become another program."""
        return self.stat.started == other.stat.started

    def same_program(self, other: Look) -> bool:
        """Whether both are of one process, which is the same program as far as that shows."""
        return self.same_process(other) and (self.arguments, self.executable, self.file) == (
            other.arguments, other.executable, other.file,
        )  # fmt: skip


def look(pid: int) -> Look | None:
    """What process `pid` is now; None where there is none."""
    for _ in range(TRIES):
        found = _look(pid)
        if found is None or not found.torn:
            break
    return found


def _look(pid: int) -> Look | None:
    stat = read_stat(pid)
    if stat is None:
        return None
    # Where the first thread has ended, another one has what the process runs, and its rights.
    thread = procfs.living(pid) if stat.ended else pid
    living = read_stat(thread) if thread != pid else stat
    if living is None:
        living = stat
    executable, file, why = _executable(thread)
    command = _bytes(thread, "cmdline", MOST_COMMAND + 1)
    uid, fsuid = _users(thread)
    namespace, parent = link(thread, "ns/mnt"), program(stat.parent) if stat.parent else ""
    after, again = read_stat(pid), read_stat(thread)
    torn = again is not None and not again.ended and (
        (living.arguments == 0 and file is not None) or _moved(stat, after)
        or again.arguments != living.arguments or _executable(thread)[:2] != (executable, file)
    )  # fmt: skip
    return Look(stat, living.arguments, executable, file, why, command, uid, fsuid, namespace,
                parent, torn)  # fmt: skip


def _moved(before: Stat, after: Stat | None) -> bool:
    """Whether a number was given to another process, or the process to another parent."""
    return after is not None and (before.started, before.parent) != (after.started, after.parent)


def program(pid: int) -> str:
    """The executable of a process, '' where it has none or may not be asked."""
    found = link(pid, "exe")
    if found:
        return found
    thread = procfs.living(pid)
    return link(thread, "exe") if thread != pid else ""


def _executable(pid: int) -> tuple[str, tuple[int, int] | None, str]:
    try:
        name = os.readlink(f"/proc/{pid}/exe")
        found = os.stat(f"/proc/{pid}/exe")
    except OSError as error:
        return "", None, os.strerror(error.errno or 0).lower()
    return name, (found.st_dev, found.st_ino), ""


def _users(pid: int) -> tuple[int | None, int | None]:
    """The real and the file system user id."""
    # A name in it has no newline: the kernel escapes that one.
    _, found, rest = _bytes(pid, "status", MOST_TABLE).partition(b"\nUid:\t")
    numbers = rest.partition(b"\n")[0].split()
    if not found or len(numbers) != 4:
        return None, None
    return int(numbers[0]), int(numbers[3])


def parse_stat(text: str) -> Stat | None:
    """A /proc/PID/stat; the name in brackets may hold anything. None where it makes no sense."""
    head, bracket, tail = text.rpartition(")")
    fields = tail.split()
    if not bracket or len(fields) < 46:
        return None
    try:
        ended = procfs.is_dead(fields) or bool(int(fields[6]) & PF_EXITING)
        return Stat(head.partition("(")[2], int(fields[1]), int(fields[19]), int(fields[45]), ended)
    except ValueError:
        return None


def read_stat(pid: int) -> Stat | None:
    """The stat of a process or thread; None where there is none."""
    return parse_stat(_bytes(pid, "stat", MOST_TABLE).decode("utf-8", "replace"))


def began_before(started: int, wall: int) -> bool:
    """Whether what `started` then (`Stat`) was there at `wall` (microseconds since 1970): what has
    its number and began later is another."""
    since = time.clock_gettime(time.CLOCK_REALTIME) - wall / 1e6
    return started / _TICKS <= time.clock_gettime(time.CLOCK_BOOTTIME) - since


def process_of(thread: int) -> int:
    """The process that a thread is of; the number itself where that cannot be told."""
    for line in _bytes(thread, "status", MOST_TABLE).split(b"\n"):
        if line.startswith(b"Tgid:"):
            return int(line[5:])
    return thread


def cgroup(pid: int | str) -> str:
    """A /proc/PID/cgroup, '' where it cannot be read."""
    return _bytes(pid, "cgroup", MOST_TABLE).decode("utf-8", "replace")


def _bytes(pid: int | str, name: str, most: int) -> bytes:
    """The beginning of /proc/PID/NAME, b'' where it cannot be read."""
    try:
        handle = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(handle, most)
    except OSError:
        return b""
    finally:
        os.close(handle)


def link(pid: int | str, name: str) -> str:
    """The target of the link /proc/PID/NAME, '' where it cannot be read."""
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""
