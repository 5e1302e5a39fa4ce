"""Descriptor tables of a process, and the sockets that each leads to.

The threads of a process share one table unless one of them has left it (unshare(2), CLONE_FILES):
kcmp(2) tells which do. A socket that was registered with io_uring needs no descriptor any more:
the ring's fdinfo lists it.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
from collections.abc import Callable

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.seccomp.tables import native_calls

KCMP_FILES = 2
PIDFD_THREAD = os.O_EXCL
"""pidfd_open(2), since Linux 6.9: of any thread, not of a process alone."""
RING_MAP = re.compile(
    rb"^[0-9a-f]+-[0-9a-f]+ [-rwxsp]{4} ([0-9a-f]+) [0-9a-f]+:[0-9a-f]+ [0-9]+ +"
    rb"anon_inode:\[io_uring\](?: \(deleted\))?$",
    re.MULTILINE,
)
RING_ENTRIES = 0x10000000
"""IORING_OFF_SQES: where a ring's descriptor is mapped for the entries that are handed in."""
MOST_TABLES = 256
"""Tables of one process that are read."""
RING_READS = 8
"""How often a ring is asked for its files: the kernel leaves them out while the ring is in use."""
RING_ROW = re.compile(rb" *[0-9]+: (socket:\[([0-9]{1,20})\]|.+)")
"""A registered file, as io_uring/fdinfo.c of the kernel prints it; kernels before 5.19 print but
the last part of its name, which tells nothing of a socket."""


class Table(msgspec.Struct, frozen=True):
    """One descriptor table: the threads that use it, the descriptors of each socket's inode, those
    of epoll sets, the inodes of sockets that are registered with its rings of io_uring, how many
    rings that are, and how many do not show what is registered."""

    threads: tuple[int, ...]
    sockets: dict[int, tuple[int, ...]]
    epolls: tuple[int, ...]
    registered: frozenset[int]
    rings: int
    unread_rings: int

    @property
    def inodes(self) -> frozenset[int]:
        """All sockets that it leads to."""
        return self.registered | self.sockets.keys()


def shown(pid: int) -> bool:
    """Whether the process shows its descriptors; one that has ended hides none."""
    try:
        os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def sockets_of(pid: int) -> frozenset[int]:
    """The inodes of all sockets that the process holds; none where it has ended. Raises
    OSError when refused."""
    try:
        return frozenset().union(*(table.inodes for table in tables(pid)[0]))
    except procfs.Vanished:
        return frozenset()


def tables(pid: int) -> tuple[list[Table], bool]:
    """Every table of the process, and whether that is all. Raises OSError when it may not be read,
    or procfs.Vanished.

    A ring may be used when its descriptor is closed: what is mapped of more rings than there are
    descriptors for counts as rings of the first table that do not show what they hold.
    """
    groups, complete = sharing(pid)
    found = []
    for threads in groups:
        try:
            found.append(_table(threads))
        except (FileNotFoundError, ProcessLookupError, procfs.Vanished):
            continue  # that thread has ended
    if not found:
        raise procfs.Vanished(str(pid))
    closed = _mapped_rings(pid) - sum(table.rings for table in found)
    if closed > 0:
        found[0] = msgspec.structs.replace(found[0], unread_rings=found[0].unread_rings + closed)
    return found, complete


def _mapped_rings(pid: int) -> int:
    """How many rings of io_uring the process has mapped."""
    try:
        return mapped_rings(procfs.read(pid, "maps"))
    except OSError:
        return 0


def mapped_rings(maps: bytes) -> int:
    """The rows of /proc/PID/maps that map the entries of a ring."""
    return sum(1 for row in RING_MAP.findall(maps) if int(row, 16) == RING_ENTRIES)


def threads_of(pid: int) -> list[int]:
    """The process's threads, the one that `pid` names first. Raises procfs.Vanished."""
    try:
        threads = set(map(int, os.listdir(f"/proc/{pid}/task")))
    except (FileNotFoundError, ProcessLookupError):
        raise procfs.Vanished(str(pid)) from None
    return [pid, *sorted(threads - {pid})]


def sharing(pid: int) -> tuple[list[list[int]], bool]:
    """The threads by table, and whether that is all; where it is not told which share one, each
    for itself. Raises procfs.Vanished."""
    groups: list[list[int]] = []
    for thread in threads_of(pid):
        same = next((group for group in groups if _share(group[0], thread)), None)
        if same is not None:
            same.append(thread)
        elif len(groups) == MOST_TABLES:
            return groups, False
        else:
            groups.append([thread])
    return groups, True


def _share(one: int, other: int) -> bool:
    """Whether two threads have one table, as kcmp(2) tells; False where it does not."""
    return bool(_syscall()(native_calls()["kcmp"], one, other, KCMP_FILES, 0, 0) == 0)


@functools.cache
def _syscall() -> Callable[..., int]:
    made: Callable[..., int] = ctypes.CDLL(None, use_errno=True).syscall
    return made


def descriptor_of(thread: int, descriptor: int) -> int:
    """Another thread's descriptor as one of ours for the same open file, closed on execve
    (pidfd_getfd(2)). Raises OSError."""
    try:
        handle = os.pidfd_open(thread, PIDFD_THREAD)
    except OSError:
        handle = os.pidfd_open(thread)
    try:
        copy = _syscall()(native_calls()["pidfd_getfd"], handle, descriptor, 0)
        if copy == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return copy
    finally:
        os.close(handle)


def _table(threads: list[int]) -> Table:
    first = threads[0]
    sockets: dict[int, tuple[int, ...]] = {}
    epolls, rings = [], []
    for name in os.listdir(f"/proc/{first}/fd"):
        try:
            target = procfs.link(first, f"fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inode = int(target[8:-1])
            sockets[inode] = (*sockets.get(inode, ()), int(name))
        elif target == "anon_inode:[eventpoll]":
            epolls.append(int(name))
        elif target == "anon_inode:[io_uring]":
            rings.append(int(name))
    files = [_registered(first, ring) for ring in rings]
    known = [inodes for inodes in files if inodes is not None]
    return Table(
        tuple(threads),
        sockets,
        tuple(epolls),
        frozenset().union(*known),
        len(files),
        len(files) - len(known),
    )


def _registered(thread: int, ring: int) -> frozenset[int] | None:
    """Inodes of the sockets that are registered with a ring; None where it does not tell."""
    for _ in range(RING_READS):
        try:
            found = ring_sockets(procfs.read(thread, f"fdinfo/{ring}"))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EBADF):  # closed meanwhile
                return frozenset()
            return None
        if found is not None:
            return found
    return None


def ring_sockets(text: bytes) -> frozenset[int] | None:
    """Inodes of the sockets among the rows below `UserFiles:` of a ring's fdinfo.

    None where the rows are not there, or may stand for sockets without naming them.
    """
    _, heading, rest = text.partition(b"\nUserFiles:\t")
    if not heading:
        return None
    number, *lines = rest.split(b"\n")
    found: set[int] = set()
    rows = 0
    for line in lines:
        row = RING_ROW.fullmatch(line)
        if row is None:
            break
        rows += 1
        if row[2] is not None:
            found.add(int(row[2]))
        elif row[1] != b"<none>" and row[1][:1] != b"/" and b":" not in row[1]:
            return None
    return frozenset(found) if rows or number.strip() == b"0" else None
