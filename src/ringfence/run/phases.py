"""The second phase: once a service answers, its processes get a narrower filter. No way back.

Filters of seccomp(2) only ever add up, so each process of the container is made to install one
more itself (`inject`), for all its threads at once (SECCOMP_FILTER_FLAG_TSYNC). Children inherit
it; processes that were born in between are found by looking again.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Any

from ringfence.collect.process import procfs
from ringfence.collect.process.apart import apart
from ringfence.collect.process.tree import descendants
from ringfence.errors import RingfenceError
from ringfence.run.compile import compiled
from ringfence.run.inject import InjectionFailed, Prepared, call, stopped

SECCOMP, SET_MODE_FILTER, TSYNC = 317, 1, 1
MOST_ROUNDS = 10


class PhaseFailed(RingfenceError):
    """The narrower filter could not be installed everywhere."""

    exit_code = 3


def tighten(pid: int, profile: dict[str, Any]) -> int:
    """Install the profile in the process and all its descendants; how many. Raises PhaseFailed."""
    program = compiled(profile)
    done: set[int] = set()
    for _ in range(MOST_ROUNDS):
        fresh = [one for one in descendants(pid) if one not in done]
        fresh = [one for one in fresh if not _inherited(one, done)]
        if not fresh:
            return len(done)
        for one in fresh:
            _install(one, program)
            done.add(one)
    raise PhaseFailed("processes are born faster than they can be confined", where=str(pid))


def _inherited(pid: int, done: set[int]) -> bool:
    """Whether a process was born of one that had the filter: it has as many as its parent."""
    with contextlib.suppress(OSError, procfs.Vanished, KeyError, ValueError):
        fields = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
        parent = int(fields["PPid"])
        if parent in done:
            above = procfs.fields(procfs.read(parent, "status").decode("utf-8", "replace"))
            return fields["Seccomp_filters"] == above["Seccomp_filters"]
    return False


def _install(pid: int, program: bytes) -> None:
    def prepare(place: int) -> Prepared:
        # struct sock_fprog {len, pointer} lies behind the program that it points to.
        frame = struct.pack("<HxxxxxxQ", len(program) // 8, place)
        return Prepared((SET_MODE_FILTER, TSYNC, place + len(program)), program + frame)

    def drive() -> int:
        with stopped(pid) as before:
            return call(pid, before, SECCOMP, len(program) + 16, prepare)

    try:
        result = apart(drive)
    except InjectionFailed as failure:
        if not os.path.exists(f"/proc/{pid}"):
            return
        raise PhaseFailed(str(failure), where=f"process {pid}") from None
    if result:
        reason = os.strerror(-result).lower() if result < 0 else f"thread {result} cannot follow"
        raise PhaseFailed(f"seccomp(2) said: {reason}", where=f"process {pid}")
