"""Reads the filters of a live process: PTRACE_SECCOMP_GET_FILTER, as ptrace(2) describes it.

The process is stopped from the moment that the kernel honours PTRACE_INTERRUPT until
PTRACE_DETACH; between the two only the filters are copied, into buffers made before. Needs
CAP_SYS_ADMIN, a kernel with CONFIG_CHECKPOINT_RESTORE, and a process that nobody else traces.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import gc
import os
import time
from collections.abc import Callable, Sequence

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.process.apart import apart
from ringfence.collect.seccomp.question import parse
from ringfence.collect.seccomp.tables import native_calls
from ringfence.collect.seccomp.verdicts import NO_SUCH_CALL, answers, foreign, table, weakest
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


MOST_THREADS, MOST_STACKS, MOST_ROUNDS = 4096, 16, 8
"""Threads that are read, different stacks of filters among them that are interpreted, and how
often a process that starts new threads meanwhile is looked at again."""

Stack = tuple[bytes, ...]
"""The programs of one thread, oldest first."""


class FilterUnreadable(Exception):
    """The filters could not be read; the message says why, and what would help."""


class Reading(msgspec.Struct, frozen=True):
    """The programs of one thread, oldest first, and how long it was stopped at most.

    `stopped` is in microseconds, from the request to stop until the thread was let go.
    """

    programs: Stack
    stopped: float


def read_live(pid: int, questions: Sequence[str]) -> Seccomp:
    """The filters of `pid` and what they do with every call and question.

    The filters of every thread are read, for an attacker who runs code in the process can use any
    of them: where their answers to a call differ, the most permissive one counts. Raises
    FilterUnreadable where those of a single thread are not known, or procfs.Vanished.
    """
    threads = _at_rest(pid)
    free = next((thread for thread, mode in threads.modes.items() if mode == 0), None)
    if free is not None:
        first = next(iter(threads.modes))
        return _unfiltered(pid, free, 0, "" if free == first else "; the first thread has filters")
    found = [
        _filtered(pid, threads, stack, questions)
        for stack in dict.fromkeys(threads.stacks.values())
    ]
    strict = next((thread for thread, mode in threads.modes.items() if mode == 1), None)
    if strict is not None:
        found.append(_unfiltered(pid, strict, 1, ""))
    return found[0] if len(found) == 1 else _most_permissive(found, len(threads.modes))


def _unfiltered(pid: int, thread: int, mode: int, note: str) -> Seccomp:
    evidence = Evidence(
        Grade.OBSERVED, f"/proc/{pid}/task/{thread}/status", f"Seccomp {mode}{note}"
    )
    allowed, killed = CallVerdict(("allow",)), CallVerdict(("kill-thread",))
    calls = {name: allowed if mode == 0 or name in STRICT else killed for name in native_calls()}
    return Seccomp(mode, 0, evidence, calls)


def _filtered(pid: int, threads: Threads, stack: Stack, questions: Sequence[str]) -> Seccomp:
    """What one stack of filters does."""
    size = sum(len(program) // 8 for program in stack)
    detail = f"{len(stack)} filters, {size} instructions, stopped {threads.stopped:.0f} µs"
    number = len(threads.modes)
    source = f"PTRACE_SECCOMP_GET_FILTER of {pid}" + (f", {number} threads" if number > 1 else "")
    return Seccomp(
        mode=2,
        filters=len(stack),
        evidence=Evidence(Grade.OBSERVED, source, detail),
        calls=table(stack),
        asked=answers(stack, questions),
        foreign=foreign(stack),
    )


def _most_permissive(found: list[Seccomp], threads: int) -> Seccomp:
    """What several stacks of filters let through together, each of other threads."""
    first = found[0]
    note = f"; {threads} threads differ, the most permissive answer counts"
    detail = f"{first.evidence.detail}{note}"
    names = dict.fromkeys(name for item in found for name in item.foreign)
    return Seccomp(
        mode=2,
        filters=min(item.filters for item in found),
        evidence=msgspec.structs.replace(first.evidence, detail=detail),
        calls={name: weakest([item.calls[name] for item in found]) for name in first.calls},
        asked={
            # Strict mode knows no arguments: what it says of the call, it says of the question.
            text: weakest([item.asked.get(text) or _unasked(item, text) for item in found])
            for text in first.asked
        },
        foreign=tuple(names),
    )


def _unasked(item: Seccomp, text: str) -> CallVerdict:
    return item.calls.get(parse(text).call, NO_SUCH_CALL)


class Threads(msgspec.Struct):
    """The seccomp mode of each living thread, the filters of those that have any, oldest first,
    and the longest time in microseconds that one of them was stopped."""

    modes: dict[int, int] = {}
    stacks: dict[int, Stack] = {}
    stopped: float = 0.0


def _at_rest(pid: int) -> Threads:
    """Every thread of the process, read until there is none that was not.

    Which filters a thread has when it starts another one is not known afterwards, so a new one is
    read, too. A thread without any filter ends the search: nobody has fewer.
    """
    found = Threads()
    for _ in range(MOST_ROUNDS):
        fresh = [thread for thread in _living(pid) if thread not in found.modes]
        if not fresh:
            break
        if len(fresh) + len(found.modes) > MOST_THREADS:
            raise FilterUnreadable(f"it has more than {MOST_THREADS} threads, each with its own")
        apart(functools.partial(_read_threads, pid, fresh, found))
        if 0 in found.modes.values():
            return found
        if len(set(found.stacks.values())) > MOST_STACKS:
            raise FilterUnreadable(f"its threads have more than {MOST_STACKS} different ones")
    else:
        raise FilterUnreadable("it starts threads faster than they can be read")
    if not found.modes:
        raise procfs.Vanished(str(pid))
    return found


def _living(pid: int) -> list[int]:
    """The threads that have not ended, the first one first. Raises procfs.Vanished."""
    try:
        threads = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except (FileNotFoundError, ProcessLookupError):
        raise procfs.Vanished(str(pid)) from None
    return [thread for thread in threads if not _ended(pid, thread)]


def _ended(pid: int, thread: int) -> bool:
    fields = procfs.stat(f"{pid}/task/{thread}")
    return not fields or procfs.is_dead(fields)


def _read_threads(pid: int, threads: list[int], found: Threads) -> None:
    """Add these threads to `found`, up to one without filters; those that end meanwhile do not
    count any more."""
    for thread in threads:
        try:
            status = procfs.fields(procfs.read(pid, f"task/{thread}/status").decode())
            mode = int(status.get("Seccomp", "0"))
            reading = _read_programs(thread) if mode == 2 else None
        except (OSError, FilterUnreadable):
            if _ended(pid, thread):
                continue
            raise
        found.modes[thread] = mode
        if mode == 0:
            return
        if reading is not None:
            found.stacks[thread] = reading.programs
            found.stopped = max(found.stopped, reading.stopped)


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
