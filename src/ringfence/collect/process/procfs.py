"""Reading /proc: small files of processes that may vanish or refuse at any moment."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

from ringfence.model.evidence import Evidence, Grade, Seen

MOST_BYTES = 16 << 20
"""No file of /proc that is read here is longer than this on a sane system; `whole` tells."""


class Vanished(Exception):
    """The process ended while it was being read."""


def read(pid: int | str, name: str) -> bytes:
    """The first MOST_BYTES of /proc/PID/NAME. Raises Vanished, or OSError when it may not be
    read."""
    try:
        with Path(f"/proc/{pid}/{name}").open("rb") as file:
            return file.read(MOST_BYTES)
    except (FileNotFoundError, ProcessLookupError):
        if not Path(f"/proc/{pid}").exists():
            raise Vanished(str(pid)) from None
        raise


def whole(pid: int | str, name: str) -> bytes:
    """What `read` gives, where that is all of it. Raises as `read` does, and OSError (EFBIG) for a
    longer file: the rest of it could say the opposite, and a user can put it there."""
    data = read(pid, name)
    if len(data) >= MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return data


def link(pid: int | str, name: str) -> str:
    """The target of the link /proc/PID/NAME. Raises as `read` does."""
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except (FileNotFoundError, ProcessLookupError):
        if not Path(f"/proc/{pid}").exists():
            raise Vanished(str(pid)) from None
        raise


def rows(data: bytes) -> list[str]:
    """The lines of a table of /proc.

    The kernel ends a row with a newline and escapes no other line end (\\r, \\x85) in the names
    that a process chooses, so `splitlines` would cut a row where its author likes.
    """
    return [row for row in data.decode("utf-8", "surrogateescape").split("\n") if row]


def fields(text: str) -> dict[str, str]:
    """`Name:\\tvalue` lines, as /proc/PID/status and fdinfo have them."""
    # A newline alone ends a row: a process's name may hold what else `splitlines` splits at.
    pairs = (line.partition(":") for line in text.split("\n"))
    return {name: value.strip() for name, colon, value in pairs if colon}


def refused(source: str, error: OSError) -> Seen[Any]:
    """A fact that may not be read, with the reason."""
    return Seen(None, Evidence(Grade.ASSUMED, source, os.strerror(error.errno or 0).lower()))


def is_pid(text: str) -> bool:
    """Whether `text` can be a PID: the kernel's largest has seven digits (PID_MAX_LIMIT)."""
    return text.isascii() and text.isdigit() and len(text) <= 7


def pids() -> list[int]:
    """Every process that /proc lists now."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat(place: int | str) -> list[str]:
    """Fields of /proc/PLACE/stat from the third (state) on; empty when it cannot be read."""
    try:
        text = read(place, "stat").decode("utf-8", "replace")
    except (OSError, Vanished):
        return []
    # The name may hold spaces and brackets: fields are counted from the last bracket.
    return text.rpartition(")")[2].split()


def is_dead(fields: list[str]) -> bool:
    """Whether this `stat` is of a thread that has ended and only waits to be collected."""
    return fields[0] in "ZX"


PF_KTHREAD = 0x00200000
"""include/linux/sched.h; shown in field 9 of /proc/PID/stat."""


def is_thread_of_kernel(fields: list[str]) -> bool:
    """Whether this `stat` is of a thread of the kernel itself."""
    return bool(int(fields[6]) & PF_KTHREAD)


def is_program(pid: int) -> bool:
    """Whether it runs a program: no thread of the kernel, and nothing that has ended."""
    fields = stat(pid)
    return bool(fields) and not is_thread_of_kernel(fields) and not is_dead(fields)


def living(pid: int) -> int:
    """The process's id, or that of another of its threads where the first one has ended.

    /proc shows nothing of a thread that has ended, and under the id of any other thread what it
    shows of the process (proc_pid_task(5)). Otherwise a service would be hidden from every reader
    by ending its first thread.
    """
    fields = stat(pid)
    if not fields or not is_dead(fields):
        return pid
    try:
        threads = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except OSError:
        return pid
    for thread in threads:
        fields = stat(f"{pid}/task/{thread}")
        if fields and not is_dead(fields):
            return thread
    return pid


def descriptors(pid: int) -> list[str]:
    """What each open descriptor of the process leads to. Raises OSError when refused."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(link(pid, f"fd/{name}"))
        except (OSError, Vanished):
            continue
    return found


def children(pid: int) -> list[int]:
    """The processes whose parent is any thread of this one; none where it has ended
    (proc_tid_children(5))."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    for thread in threads:
        with contextlib.suppress(OSError, Vanished):  # of one that has just ended
            found += map(int, read(pid, f"task/{thread}/children").split())
    return found


def below(pid: int) -> set[int]:
    """All that stems from the process, as far as each parent still lives."""
    found: set[int] = set()
    queue = children(pid)
    while queue:
        one = queue.pop()
        if one not in found:
            found.add(one)
            queue += children(one)
    return found
