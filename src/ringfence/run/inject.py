"""One system call executed by another live process, which then goes on as if nothing had been.

All threads are stopped (ptrace), the first one's registers are set to the call and it makes a
single step over a system call instruction of its own; registers and the memory that was borrowed
for arguments are put back. A call that was interrupted is begun again, as the kernel does for
signals without a handler. ptrace(2); needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from ringfence.run import tracee
from ringfence.run.tracee import SUSPEND_SECCOMP, InjectionFailed

__all__ = ["InjectionFailed", "Prepared", "call", "stopped"]

RED_ZONE = 128
"""Bytes below the stack pointer that belong to the function (System V psABI)."""


@contextmanager
def stopped(pid: int) -> Iterator[list[int]]:
    """All threads of a process, stopped; they go on in the end. Raises InjectionFailed."""
    tracee.machine()
    threads: dict[int, int] = {}
    try:
        while fresh := [one for one in _threads(pid) if one not in threads]:
            for thread in fresh:
                tracee.seize(thread, SUSPEND_SECCOMP)
                threads[thread] = 0
                threads[thread] = tracee.interrupt(thread)
        yield list(threads)
    finally:
        for thread, pending in threads.items():
            with suppress(InjectionFailed):
                tracee.detach(thread, pending)


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        raise InjectionFailed(f"{pid} has ended") from None


class Prepared(NamedTuple):
    """A system call: its arguments, and the bytes that they point to."""

    arguments: tuple[int, ...]
    data: bytes


def call(pid: int, number: int, size: int, prepare: Callable[[int], Prepared]) -> int:
    """The result of a system call made by the first thread of a process that is `stopped`.

    `prepare` is given the address on its stack where `size` bytes of data will lie for the time
    of the call. Raises InjectionFailed.
    """
    before = tracee.registers(pid)
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        place = (getattr(before, tracee.machine().stack) - RED_ZONE - size) & ~0xF
        kept = os.pread(memory, size, place)
        if len(kept) != size:
            raise InjectionFailed(f"{pid} has too little stack")
        step = tracee.instruction(pid, before, memory)
        made = prepare(place)
        try:
            os.pwrite(memory, made.data[:size], place)
            return _stepped(pid, before, step, number, made.arguments)
        finally:
            os.pwrite(memory, kept, place)
            after = tracee.copied(before)
            tracee.machine().restarted(after)
            tracee.set_registers(pid, after)
    except OSError as error:
        raise InjectionFailed(f"memory of {pid}: {error.strerror}") from None
    finally:
        os.close(memory)


def _stepped(pid: int, before: Any, step: int, number: int, values: tuple[int, ...]) -> int:
    status = tracee.step(pid, tracee.prepared(before, step, number, values))
    received = os.WSTOPSIG(status) if status >> 16 == 0 else 0
    if received not in (0, signal.SIGTRAP):
        os.kill(pid, received)  # not ours: it comes again once the process goes on
    after = tracee.registers(pid)
    if getattr(after, tracee.machine().counter) != step + len(tracee.machine().instruction):
        raise InjectionFailed(f"{pid} did not make the step")
    return tracee.result(after)
