"""The second phase: once a service answers, its processes get a narrower filter. No way back.

Filters of seccomp(2) only ever add up, so each process of the container is made to install one
more itself (`inject`), for all its threads at once (SECCOMP_FILTER_FLAG_TSYNC). Children inherit
it; processes that were born in between are found by looking again.

Of all filters that refuse a call, the one whose answer is the strictest gives it, and the newest
where they are equal. An errno is stricter than a notification: a second filter that answers so
silences the first one, too. Therefore it notifies as that did, of everything that it refuses. A
process has one listener at most: the first is let go before (seccomp_unotify(2)).
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Any

from ringfence.collect.process import procfs
from ringfence.collect.process.apart import apart
from ringfence.collect.process.descriptors import descriptor_of
from ringfence.collect.process.tree import descendants
from ringfence.errors import RingfenceError
from ringfence.run.compile import compiled
from ringfence.run.inject import InjectionFailed, Prepared, call, stopped
from ringfence.run.notify import Listener, notifying

SECCOMP, CLOSE = 317, 3
"""System calls of x86-64."""
SET_MODE_FILTER, TSYNC, NEW_LISTENER, TSYNC_ESRCH = 1, 1, 8, 16
"""include/uapi/linux/seccomp.h. The last: a thread that cannot follow is no number, which with a
listener would be taken for its descriptor."""
MOST_ROUNDS = 10


class PhaseFailed(RingfenceError):
    """The narrower filter could not be installed everywhere."""

    exit_code = 3


def tighten(pid: int, profile: dict[str, Any], listener: Listener | None = None) -> int:
    """Install the profile in the process and all its descendants; how many. `listener` is that of
    their first filter: it is told from then on what the profile refuses. Raises PhaseFailed."""
    program = compiled(profile if listener is None else notifying(profile, listener.path))
    done: set[int] = set()
    for _ in range(MOST_ROUNDS):
        fresh = [one for one in descendants(pid) if one not in done]
        fresh = [one for one in fresh if not _inherited(one, done)]
        if not fresh:
            return len(done)
        for one in fresh:
            _install(one, program, listener)
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


def _install(pid: int, program: bytes, listener: Listener | None) -> None:
    flags = TSYNC if listener is None else TSYNC | TSYNC_ESRCH | NEW_LISTENER

    def prepare(place: int) -> Prepared:
        # struct sock_fprog {len, pointer} lies behind the program that it points to.
        frame = struct.pack("<HxxxxxxQ", len(program) // 8, place)
        return Prepared((SET_MODE_FILTER, flags, place + len(program)), program + frame)

    def drive() -> int:
        with stopped(pid) as before:
            if listener is not None:
                listener.release()
            result = call(pid, before, SECCOMP, len(program) + 16, prepare)
            if listener is None or result < 0:
                return result
            try:
                listener.listen(descriptor_of(pid, result))
            finally:
                call(pid, before, CLOSE, 16, lambda place: Prepared((result,), b""))
            return 0

    try:
        result = apart(drive)
    except InjectionFailed as failure:
        if not os.path.exists(f"/proc/{pid}"):
            return
        raise PhaseFailed(str(failure), where=f"process {pid}") from None
    except OSError as error:
        raise PhaseFailed(f"its listener: {error.strerror}", where=f"process {pid}") from None
    if result:
        reason = os.strerror(-result).lower() if result < 0 else f"thread {result} cannot follow"
        raise PhaseFailed(f"seccomp(2) said: {reason}", where=f"process {pid}")
