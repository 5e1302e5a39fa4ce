"""Clones of ours that a workload still has among its children, though they have ended.

Whoever drives them may be killed, which nobody can catch: then they end with it (EXITKILL), and
nobody collects them. They would count against the workload's limit of processes for ever, since no
wait(2) of its sees them. They bear a name by which they are found again: by a guardian, which
outlives us for that, or by the next probing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

from ringfence.collect.process import procfs
from ringfence.probe.holding import hold_only

NAME = b"ringfence-probe"
"""As long as a name may be (PR_SET_NAME(2const))."""
PATIENCE = 2.0
"""Seconds in which what was killed has ended."""


def left_over(pid: int) -> dict[int, bool]:
    """Our clones among a process's children, by their numbers as it sees them, each with whether
    it has ended."""
    found = {}
    for child in procfs.children(pid):
        with contextlib.suppress(OSError, procfs.Vanished):
            name, _, rest = procfs.read(child, "stat").partition(b" (")[2].rpartition(b") ")
            if name == NAME:
                found[_seen_by(pid, child)] = rest[:1] == b"Z"
    return found


def _seen_by(pid: int, child: int) -> int:
    """A child's number in the PID namespace of its parent."""
    ours, theirs = (procfs.fields(procfs.read(one, "status").decode("utf-8", "replace"))["NSpid"]
                    for one in (pid, child))  # fmt: skip
    return int(theirs.split()[len(ours.split()) - 1])


@contextlib.contextmanager
def guarded(pid: int, collect: Callable[[], None]) -> Iterator[None]:
    """While this lasts, our sudden end is followed by `collect`, once all our clones among the
    children of `pid` have ended. Made by a process in a session of its own."""
    read, write = os.pipe()
    guardian = os.fork()
    if guardian == 0:
        _guard(read, pid, collect)
    os.close(read)
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            os.write(write, b"collected")
        os.close(write)
        os.waitpid(guardian, 0)


def _guard(read: int, pid: int, collect: Callable[[], None]) -> None:
    """Never returns."""
    try:
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        hold_only(read)
        if os.read(read, 16) == b"":
            limit = time.monotonic() + PATIENCE
            # Our descriptors are closed before what we trace is killed (do_exit in the kernel).
            while time.monotonic() < limit:
                time.sleep(0.01)
                if all(left_over(pid).values()):
                    break
            if left_over(pid):
                collect()
    finally:
        os._exit(0)
