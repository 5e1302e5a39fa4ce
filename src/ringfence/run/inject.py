"""One system call executed by another live process, which then goes on as if nothing had been.

All threads are stopped (ptrace), the first one's registers are set to the call and it makes a
single step over a `syscall` instruction of its own; registers and the memory that was borrowed
for arguments are put back. A call that was interrupted is begun again, as the kernel does for
signals without a handler. ptrace(2); x86-64; needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ringfence.errors import MissingError

DETACH, GETREGS, SETREGS, SINGLESTEP, SEIZE, INTERRUPT = 17, 12, 13, 9, 0x4206, 0x4207
SUSPEND_SECCOMP = 1 << 21
"""PTRACE_O_SUSPEND_SECCOMP: the process's own filter does not apply to what we make it do."""
WALL = 0x40000000
PATIENCE = 2.0
RED_ZONE = 128
"""Bytes below the stack pointer that belong to the function (System V psABI)."""
INSTRUCTION = b"\x0f\x05"
ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = 512, 513, 514, 516
RESTART_SYSCALL = 219
MOST_ERRNO = 4095
_U64 = (1 << 64) - 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Registers(ctypes.Structure):
    """struct user_regs_struct of x86-64 (sys/user.h)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs "
        "eflags rsp ss fs_base gs_base ds es fs gs".split()
    )


class InjectionFailed(Exception):
    """The process could not be stopped or driven; it goes on as before. The message says why."""


def _ptrace(request: int, thread: int, data: object = None) -> None:
    if _libc.ptrace(request, thread, None, data) == -1:
        number = ctypes.get_errno()
        raise InjectionFailed(f"ptrace of {thread}: {os.strerror(number).lower()}")


@contextmanager
def stopped(pid: int) -> Iterator[list[int]]:
    """All threads of a process, stopped; they go on in the end. Raises InjectionFailed."""
    if platform.machine() != "x86_64":
        raise MissingError("driving another process is written for x86-64 alone")
    threads: dict[int, int] = {}
    try:
        while fresh := [one for one in _threads(pid) if one not in threads]:
            for thread in fresh:
                _ptrace(SEIZE, thread, SUSPEND_SECCOMP)
                threads[thread] = 0
                _ptrace(INTERRUPT, thread)
                threads[thread] = _wait(thread)
        yield list(threads)
    finally:
        for thread, pending in threads.items():
            with suppress(InjectionFailed):
                _ptrace(DETACH, thread, pending or None)


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        raise InjectionFailed(f"{pid} has ended") from None


def _wait(thread: int) -> int:
    """Waits for the stop; the signal that arrived instead of it, 0 for none."""
    limit = time.monotonic() + PATIENCE
    while True:
        try:
            found, status = os.waitpid(thread, os.WNOHANG | WALL)
        except ChildProcessError:
            raise InjectionFailed(f"{thread} has ended") from None
        if found:
            if not os.WIFSTOPPED(status):
                raise InjectionFailed(f"{thread} has ended")
            return os.WSTOPSIG(status) if status >> 16 == 0 else 0
        if time.monotonic() > limit:
            raise InjectionFailed(f"{thread} did not stop")
        time.sleep(0.0002)


class Prepared(NamedTuple):
    """A system call: its arguments, and the bytes that they point to."""

    arguments: tuple[int, ...]
    data: bytes


def call(pid: int, number: int, size: int, prepare: Callable[[int], Prepared]) -> int:
    """The result of a system call made by the first thread of a process that is `stopped`.

    `prepare` is given the address on its stack where `size` bytes of data will lie for the time
    of the call. Raises InjectionFailed.
    """
    before = Registers()
    _ptrace(GETREGS, pid, ctypes.addressof(before))
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        place = (before.rsp - RED_ZONE - size) & ~0xF
        kept = os.pread(memory, size, place)
        if len(kept) != size:
            raise InjectionFailed(f"{pid} has too little stack")
        step = _instruction(pid, before, memory)
        made = prepare(place)
        try:
            os.pwrite(memory, made.data[:size], place)
            return _stepped(pid, before, step, number, made.arguments)
        finally:
            os.pwrite(memory, kept, place)
            after = _restarted(before)
            _ptrace(SETREGS, pid, ctypes.addressof(after))
    except OSError as error:
        raise InjectionFailed(f"memory of {pid}: {error.strerror}") from None
    finally:
        os.close(memory)


def _stepped(pid: int, before: Registers, step: int, number: int, values: tuple[int, ...]) -> int:
    regs = _copy(before)
    regs.rax, regs.orig_rax, regs.rip = number, _U64, step
    for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), values, strict=False):
        setattr(regs, name, value & _U64)
    _ptrace(SETREGS, pid, ctypes.addressof(regs))
    _ptrace(SINGLESTEP, pid)
    received = _wait(pid)
    if received not in (0, signal.SIGTRAP):
        os.kill(pid, received)  # not ours: it comes again once the process goes on
    _ptrace(GETREGS, pid, ctypes.addressof(regs))
    if regs.rip != step + len(INSTRUCTION):
        raise InjectionFailed(f"{pid} did not make the step")
    result = int(regs.rax)
    return result - (1 << 64) if result > _U64 - MOST_ERRNO else result


def _restarted(before: Registers) -> Registers:
    """The registers to go on with: an interrupted call is made again (arch/x86/kernel/signal.c)."""
    regs = _copy(before)
    interrupted = before.orig_rax < 1 << 63
    error = (1 << 64) - before.rax
    if interrupted and error in (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND):
        regs.rax, regs.rip = before.orig_rax, before.rip - len(INSTRUCTION)
    elif interrupted and error == ERESTART_RESTARTBLOCK:
        regs.rax, regs.rip = RESTART_SYSCALL, before.rip - len(INSTRUCTION)
    regs.orig_rax = _U64
    return regs


def _copy(regs: Registers) -> Registers:
    return Registers.from_buffer_copy(regs)


def _instruction(pid: int, regs: Registers, memory: int) -> int:
    """Address of a `syscall` instruction: the one it waits in, or one of the vDSO."""
    if os.pread(memory, 2, regs.rip - 2) == INSTRUCTION:
        return int(regs.rip - 2)
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            if line.rstrip().endswith("[vdso]"):
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                found = os.pread(memory, end - start, start).find(INSTRUCTION)
                if found >= 0:
                    return start + found
    raise InjectionFailed(f"{pid} has no system call instruction that is known")
