"""Reads the filters of a live process: PTRACE_SECCOMP_GET_FILTER, as ptrace(2) describes it.

The process is stopped from the moment that the kernel honours PTRACE_INTERRUPT until
PTRACE_DETACH; between the two only the filters are copied, into buffers made before. Needs
CAP_SYS_ADMIN, a kernel with CONFIG_CHECKPOINT_RESTORE, and a process that nobody else traces.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import time
from collections.abc import Callable, Sequence

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.process.apart import apart
from ringfence.collect.seccomp.tables import native_calls
from ringfence.collect.seccomp.verdicts import answers, foreign, table
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.process import CallVerdict, Seccomp

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_GET_FILTER = 17, 0x4206, 0x4207, 0x420C
WALL = 0x40000000
PATIENCE = 0.2
"""Seconds to wait for the process to stop; one in uninterruptible sleep is let go again."""

MOST_FILTERS = 64
FILTER_BYTES = 4096 * 8
STRICT = frozenset({"read", "write", "exit", "rt_sigreturn"})
"""What mode 1 allows: seccomp(2)."""


class FilterUnreadable(Exception):
    """The filters could not be read; the message says why, and what would help."""


class Reading(msgspec.Struct, frozen=True):
    """The programs of one thread, oldest first, and how long it was stopped at most.

    `stopped` is in microseconds, from the request to stop until the thread was let go.
    """

    programs: tuple[bytes, ...]
    stopped: float


def read_live(pid: int, questions: Sequence[str]) -> Seccomp:
    """The filters of `pid` and what they do with every call and question.

    Where threads differ, the one with the fewest filters is read: an attacker who runs code in
    the process can use any of its threads. Raises FilterUnreadable, or procfs.Vanished.
    """
    thread, mode, note = _least_confined(pid)
    source = f"PTRACE_SECCOMP_GET_FILTER of {thread}"
    if mode != 2:
        return _without_filter(pid, thread, mode, note)
    reading = read_programs(thread)
    size = sum(len(program) // 8 for program in reading.programs)
    detail = (
        f"{len(reading.programs)} filters, {size} instructions, stopped {reading.stopped:.0f} µs"
    )
    return Seccomp(
        mode=2,
        filters=len(reading.programs),
        evidence=Evidence(Grade.OBSERVED, source, f"{detail}{note}"),
        calls=table(reading.programs),
        asked=answers(reading.programs, questions),
        foreign=foreign(reading.programs),
    )


def _without_filter(pid: int, thread: int, mode: int, note: str) -> Seccomp:
    evidence = Evidence(
        Grade.OBSERVED, f"/proc/{pid}/task/{thread}/status", f"Seccomp {mode}{note}"
    )
    allowed, killed = CallVerdict(("allow",)), CallVerdict(("kill-thread",))
    calls = {name: allowed if mode == 0 or name in STRICT else killed for name in native_calls()}
    return Seccomp(mode, 0, evidence, calls)


def _least_confined(pid: int) -> tuple[int, int, str]:
    """The thread with the fewest filters, its mode, and a note where threads differ."""
    threads: list[tuple[int, int, int]] = []
    for name in os.listdir(f"/proc/{pid}/task"):
        try:
            status = procfs.fields(procfs.read(pid, f"task/{name}/status").decode())
        except OSError:
            continue
        mode = int(status.get("Seccomp", "0"))
        count = int(status.get("Seccomp_filters", "1" if mode == 2 else "0"))
        threads.append((count if mode == 2 else -1 if mode == 0 else 1 << 16, int(name), mode))
    if not threads:
        raise procfs.Vanished(str(pid))
    leader = next((item for item in threads if item[1] == pid), threads[0])
    least = min(threads)
    if least[0] == leader[0]:
        return leader[1], leader[2], ""
    return least[1], least[2], f"; thread {least[1]} has fewer filters than the first one"


def read_programs(thread: int) -> Reading:
    """Stop one thread, copy its filters, let it go. Raises FilterUnreadable."""
    return apart(lambda: _read_programs(thread))


def _read_programs(thread: int) -> Reading:
    ptrace = _ptrace()
    buffer = (ctypes.c_char * FILTER_BYTES)()
    programs: list[bytes] = []
    if ptrace(PTRACE_SEIZE, thread, None, None) == -1:
        raise FilterUnreadable(_refusal(thread, ctypes.get_errno()))
    collecting = gc.isenabled()
    gc.disable()
    failure, ended, signal = 0, 0.0, 0
    began = time.perf_counter()
    try:
        ptrace(PTRACE_INTERRUPT, thread, None, None)
        status = _wait(thread)
        if os.WIFSTOPPED(status) and status >> 16 == 0:
            signal = os.WSTOPSIG(status)
        for index in range(MOST_FILTERS):
            length = ptrace(PTRACE_GET_FILTER, thread, index, buffer)
            if length == -1:
                failure = ctypes.get_errno()
                break
            programs.append(buffer.raw[: length * 8])
    finally:
        # A signal that happened to arrive instead of our stop is handed on, not swallowed.
        ptrace(PTRACE_DETACH, thread, None, signal or None)
        ended = time.perf_counter()
        if collecting:
            gc.enable()
    if failure not in (0, errno.ENOENT):
        raise FilterUnreadable(_refusal(thread, failure))
    return Reading(tuple(programs), (ended - began) * 1e6)


def _wait(thread: int) -> int:
    deadline = time.perf_counter() + PATIENCE
    while True:
        try:
            found, status = os.waitpid(thread, os.WNOHANG | WALL)
        except ChildProcessError:
            raise FilterUnreadable("it ended while it was being read") from None
        if found:
            if not os.WIFSTOPPED(status):
                raise FilterUnreadable("it ended while it was being read")
            return status
        if time.perf_counter() > deadline:
            raise FilterUnreadable(f"it did not stop within {PATIENCE * 1000:.0f} ms")


Ptrace = Callable[[int, int, object, object], int]


def _ptrace() -> Ptrace:
    """ptrace(2) with pointers as arguments and errno kept."""
    function = ctypes.CDLL(None, use_errno=True).ptrace
    function.restype = ctypes.c_long
    function.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    made: Ptrace = function
    return made


def _refusal(thread: int, number: int) -> str:
    """Why the kernel refused, in words that help."""
    if number == errno.ESRCH:
        return "it is gone"
    if number == errno.EMEDIUMTYPE:
        return "a filter is not classic BPF"
    if number in (errno.EIO, errno.EINVAL):
        return "this kernel cannot show filters (CONFIG_CHECKPOINT_RESTORE)"
    tracer = _tracer(thread)
    if tracer:
        return f"process {tracer} traces it already"
    if number == errno.EACCES:
        return "reading filters takes CAP_SYS_ADMIN and a reader without filters of its own"
    return "reading filters takes root"


def _tracer(thread: int) -> str:
    try:
        status = procfs.fields(procfs.read(thread, "status").decode("utf-8", "replace"))
    except (OSError, procfs.Vanished):
        return ""
    found = status.get("TracerPid", "0")
    return "" if found == "0" else found
