"""A thread that we trace and that stands still: its registers, its memory, one step at a time.

ptrace(2). Requests must come from the thread that attached.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ringfence.collect.process.apart import apart
from ringfence.run.registers import U64, machine

KILL, DETACH, SINGLESTEP, CONTINUE = 8, 17, 9, 7
SETOPTIONS, GETEVENTMSG, GETREGSET, SETREGSET = 0x4200, 0x4201, 0x4204, 0x4205
GETSIGINFO, SEIZE, INTERRUPT = 0x4202, 0x4206, 0x4207
GETSIGMASK, SETSIGMASK, GET_RSEQ = 0x420A, 0x420B, 0x420F
SYSCALL = 24
NT_PRSTATUS, NT_ARM_SYSTEM_CALL = 1, 0x404

TRACE_FORK, TRACE_VFORK, TRACE_CLONE, TRACE_EXEC, TRACE_SECCOMP = 2, 4, 8, 16, 128
EXITKILL, SUSPEND_SECCOMP = 1 << 20, 1 << 21
"""PTRACE_O_*. SUSPEND_SECCOMP: the tracee's own filters do not apply; needs CAP_SYS_ADMIN."""
TRACE_SYSGOOD = 1
"""Stops at system calls are told from the signal SIGTRAP."""
CALL_STOP = 0x80 | 5
SIGSET_BYTES = 8
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_SECCOMP, EVENT_STOP = 1, 2, 3, 4, 7, 128
WALL = 0x40000000
PATIENCE = 2.0
"""Seconds to wait for a stop."""
MOST_READY = 20.0
"""The same for a thread that only waits for a processor."""
MOST_ERRNO = 4095

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class InjectionFailed(Exception):
    """The process could not be stopped or driven; it goes on as before. The message says why."""


class Ended(InjectionFailed):
    """It has ended. `status` is its wait status, None where somebody else took that."""

    def __init__(self, pid: int, status: int | None = None) -> None:
        self.status = status
        super().__init__(f"{pid} has ended")


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def request(kind: int, thread: int, address: int = 0, data: object = None) -> None:
    """One ptrace(2) request. Raises InjectionFailed."""
    if _libc.ptrace(kind, thread, address or None, data) == -1:
        number = ctypes.get_errno()
        raise InjectionFailed(f"ptrace of {thread}: {os.strerror(number).lower()}")


def seize(thread: int, options: int = 0) -> None:
    """Attach without stopping it. Raises InjectionFailed."""
    request(SEIZE, thread, 0, options or None)


def interrupt(thread: int) -> int:
    """Stop a thread that is traced, where the kernel looks for signals. One that arrives first is
    delivered as ever: its handler begins once we are gone. Answers the signal (SIGSTOP and its
    like) by which its process stands still anyway, 0 for none. Raises InjectionFailed."""
    request(INTERRUPT, thread)
    value = status(thread)
    while value >> 16 != EVENT_STOP:
        request(CONTINUE, thread, 0, os.WSTOPSIG(value) if value >> 16 == 0 else None)
        value = status(thread)
    return 0 if os.WSTOPSIG(value) == signal.SIGTRAP else os.WSTOPSIG(value)


def detach(thread: int) -> None:
    """Let it go on by itself. Raises InjectionFailed."""
    request(DETACH, thread)


def stops(thread: int) -> int:
    """Find out whether a thread can be stopped at all, in a thread of our own: one that cannot is
    let go with its end. Answers as `interrupt` does: /proc shows what stands still as running for
    a moment whenever a tracer has let it go. Raises InjectionFailed."""

    def once() -> int:
        seize(thread)
        standing = interrupt(thread)
        detach(thread)
        return standing

    return apart(once)


def sent_by(thread: int) -> int:
    """Who sent the signal that it stands at: si_code of sigaction(2), above 0 for the kernel."""
    found = ctypes.create_string_buffer(128)
    request(GETSIGINFO, thread, 0, ctypes.addressof(found))
    return ctypes.c_int.from_buffer(found, 8).value


def signal_mask(thread: int) -> int:
    """The signals that it blocks, a bit each. Raises InjectionFailed."""
    found = ctypes.c_uint64()
    request(GETSIGMASK, thread, SIGSET_BYTES, ctypes.addressof(found))
    return found.value


def set_signal_mask(thread: int, mask: int) -> None:
    """Raises InjectionFailed."""
    wanted = ctypes.c_uint64(mask)
    request(SETSIGMASK, thread, SIGSET_BYTES, ctypes.addressof(wanted))


def options(thread: int, value: int) -> None:
    """Set PTRACE_O_* options. Raises InjectionFailed."""
    request(SETOPTIONS, thread, 0, value or None)


def message(thread: int) -> int:
    """The number that comes with an event: a new child's id. Raises InjectionFailed."""
    value = ctypes.c_ulong()
    request(GETEVENTMSG, thread, 0, ctypes.addressof(value))
    return value.value


def registers(thread: int) -> Any:
    """All general registers of a stopped thread. Raises InjectionFailed."""
    found = machine().registers()
    vector = _Vector(ctypes.addressof(found), ctypes.sizeof(found))
    request(GETREGSET, thread, NT_PRSTATUS, ctypes.addressof(vector))
    if vector.length != ctypes.sizeof(found):
        raise InjectionFailed(f"{thread} is a 32-bit program")
    return found


def set_registers(thread: int, values: Any) -> None:
    """Raises InjectionFailed."""
    vector = _Vector(ctypes.addressof(values), ctypes.sizeof(values))
    request(SETREGSET, thread, NT_PRSTATUS, ctypes.addressof(vector))


class Rseq(ctypes.Structure):
    """struct ptrace_rseq_configuration."""

    _fields_ = (
        ("pointer", ctypes.c_uint64),
        ("size", ctypes.c_uint32),
        ("signature", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    )


def rseq(thread: int) -> Rseq:
    """The area that it registered with rseq(2); its pointer is 0 where there is none."""
    found = Rseq()
    with suppress(InjectionFailed):  # a kernel without it
        request(GET_RSEQ, thread, ctypes.sizeof(found), ctypes.addressof(found))
    return found


def skip_call(thread: int) -> None:
    """A thread that stands before a system call (seccomp event) will not make it."""
    if platform.machine() == "aarch64":
        value = ctypes.c_int(-1)
        vector = _Vector(ctypes.addressof(value), ctypes.sizeof(value))
        request(SETREGSET, thread, NT_ARM_SYSTEM_CALL, ctypes.addressof(vector))
        return
    regs = registers(thread)
    regs.orig_rax = U64
    set_registers(thread, regs)


def copied(regs: Any) -> Any:
    """The same registers, to be changed."""
    return type(regs).from_buffer_copy(regs)


def status(thread: int, patience: float = PATIENCE) -> int:
    """The wait status of the next stop. Raises Ended, or InjectionFailed when there is none.

    The first looks are close together: a step takes microseconds. Where the machine is busy, the
    thread may wait for a processor: what is ready to run has `MOST_READY` seconds.
    """
    began = time.monotonic()
    looks, late = 0, False
    while True:
        try:
            found, value = os.waitpid(thread, os.WNOHANG | WALL)
        except ChildProcessError:
            raise Ended(thread) from None
        if found:
            if not os.WIFSTOPPED(value):
                raise Ended(thread, value)
            return value
        if late:
            if _ready(thread):
                raise InjectionFailed(f"{thread} did not stop: it was given no processor")
            raise InjectionFailed(f"{thread} did not stop")
        looks += 1
        if looks > 50:
            # One look more after the time is up: we may have waited for a processor ourselves.
            waited = time.monotonic() - began
            late = waited > MOST_READY or (waited > patience and not _ready(thread))
            if not late:
                time.sleep(0.0001 if looks < 200 else 0.002)


def _ready(thread: int) -> bool:
    """Whether it runs or waits for a processor only (proc_pid_stat(5))."""
    try:
        with open(f"/proc/{thread}/stat", "rb") as stream:
            return stream.read().rpartition(b") ")[2][:1] == b"R"
    except OSError:
        return False


def step(thread: int, regs: Any, patience: float = PATIENCE) -> int:
    """Go on with these registers for one instruction; the wait status of the stop after it."""
    set_registers(thread, regs)
    request(SINGLESTEP, thread)
    return status(thread, patience)


def prepared(
    regs: Any, place: int, number: int, values: tuple[int, ...], names: tuple[str, ...] = ()
) -> Any:
    """Registers that make a system call with the instruction that lies at `place`. `names` are
    those of the arguments, where the call is one of another ABI."""
    kind = machine()
    made = copied(regs)
    setattr(made, kind.number, number & U64)
    setattr(made, kind.counter, place)
    if hasattr(made, "orig_rax"):
        made.orig_rax = U64
    for name, value in zip(names or kind.arguments, values, strict=False):
        setattr(made, name, value & U64)
    return made


def result(regs: Any) -> int:
    """What a system call answered: negative for an errno."""
    value = int(getattr(regs, machine().result))
    return value - (1 << 64) if value > U64 - MOST_ERRNO else value


def instruction(pid: int, regs: Any, memory: int) -> int:
    """Address of a system call instruction: the one it waits in, or one of the vDSO.

    `memory` is its open /proc/PID/mem. Raises InjectionFailed.
    """
    kind = machine()
    size, place = len(kind.instruction), int(getattr(regs, kind.counter))
    for candidate in (place - size, place):
        if candidate > 0 and _peek(memory, size, candidate) == kind.instruction:
            return candidate
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            if line.rstrip().endswith("[vdso]"):
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                found = _peek(memory, end - start, start).find(kind.instruction)
                if found >= 0:
                    return start + found
    raise InjectionFailed(f"{pid} has no system call instruction that is known")


def onward(thread: int) -> None:
    """From any stop to where the kernel looks for signals, with no instruction in between."""
    request(INTERRUPT, thread)
    request(CONTINUE, thread)
    while status(thread) >> 16 != EVENT_STOP:
        request(CONTINUE, thread)


@contextmanager
def held(thread: int) -> Iterator[Any]:
    """A thread of another process that is traced, standing still, with the registers that it has;
    it goes on as it was. Calls may be made by it meanwhile (`made`).

    Signals wait meanwhile, and are delivered as ever afterwards. A call that it was stopped in is
    begun again or answered EINTR by the kernel itself: that looks at the registers when it lets
    the thread go on from where signals are looked for (get_signal), so that is where we leave it.
    """
    interrupt(thread)
    before, mask = registers(thread), signal_mask(thread)
    set_signal_mask(thread, U64)
    try:
        yield before
    finally:
        set_registers(thread, before)
        onward(thread)
        again = copied(before)
        if not _pending(thread, mask):
            machine().restarted(again)
        set_registers(thread, again)
        set_signal_mask(thread, mask)


def _pending(thread: int, mask: int) -> bool:
    """Whether a signal waits for it that it does not block: then EINTR is what it should see."""
    with open(f"/proc/{thread}/status") as lines:
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
    waiting = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return bool(waiting & ~mask)


def made(thread: int, before: Any, place: int, number: int, values: tuple[int, ...]) -> int:
    """The result of a system call made by a thread that is `held`, with the instruction at
    `place`. What it makes (a child) is told by `message` at the events of its options."""
    return call_made(thread, prepared(before, place, number, values), lambda event: None)


def call_made(thread: int, regs: Any, seen: Callable[[int], None]) -> int:
    """The same; `seen` is called at each event on the way. It stops where the call is entered and
    left, which disturbs no handler, as a single step's SIGTRAP could."""
    set_registers(thread, regs)
    entered = False
    while True:
        request(SYSCALL, thread)
        value = status(thread)
        if os.WSTOPSIG(value) == CALL_STOP and value >> 16 == 0:
            if entered:
                return result(registers(thread))
            entered = True
        elif value >> 16:
            seen(value >> 16)
        elif os.WSTOPSIG(value) in FATAL:
            raise InjectionFailed(f"{thread} stops at signal {os.WSTOPSIG(value)}")


FATAL = frozenset({4, 7, 8, 11})
"""SIGILL, SIGBUS, SIGFPE, SIGSEGV: what waits while all signals are blocked cannot be these."""


def _peek(memory: int, size: int, place: int) -> bytes:
    try:
        return os.pread(memory, size, place)
    except OSError:
        return b""
