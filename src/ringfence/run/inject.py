"""One system call executed by another live process, which then goes on as if nothing had been.

All threads are stopped (ptrace) and the first one makes the call with an instruction of its own;
registers, and the memory that was borrowed for arguments, are put back. Signals wait meanwhile. A
call that was interrupted is begun again. ptrace(2); needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

from ringfence.run import tracee
from ringfence.run.registers import machine
from ringfence.run.tracee import SUSPEND_SECCOMP, TRACE_SYSGOOD, InjectionFailed

__all__ = ["InjectionFailed", "Prepared", "call", "stopped"]

RED_ZONE = 128
"""Bytes below the stack pointer that belong to the function (System V psABI)."""


@contextmanager
def stopped(pid: int) -> Iterator[Any]:
    """All threads of a process, held; the registers of the first. They go on in the end. Raises
    InjectionFailed. To be used in a thread that ends soon: what does not stop is let go with it."""
    machine()
    held: dict[int, Any] = {}
    with ExitStack() as stack:
        while fresh := [one for one in _threads(pid) if one not in held]:
            for thread in fresh:
                tracee.seize(thread, TRACE_SYSGOOD)
                stack.callback(_let_go, thread)
                held[thread] = stack.enter_context(tracee.held(thread))
        # Only now: of a thread that runs its filters must not be lifted.
        tracee.options(pid, TRACE_SYSGOOD | SUSPEND_SECCOMP)
        yield held[pid]


def _let_go(thread: int) -> None:
    with suppress(InjectionFailed):
        tracee.detach(thread)


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        raise InjectionFailed(f"{pid} has ended") from None


class Prepared(NamedTuple):
    """A system call: its arguments, and the bytes that they point to."""

    arguments: tuple[int, ...]
    data: bytes


def call(pid: int, before: Any, number: int, size: int, prepare: Callable[[int], Prepared]) -> int:
    """The result of a system call made by the first thread of a process that is `stopped`, whose
    registers are `before`.

    `prepare` is given the address on its stack where `size` bytes of data will lie for the time
    of the call. Raises InjectionFailed.
    """
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        place = (getattr(before, machine().stack) - RED_ZONE - size) & ~0xF
        kept = os.pread(memory, size, place)
        if len(kept) != size:
            raise InjectionFailed(f"{pid} has too little stack")
        step = tracee.instruction(pid, before, memory)
        made = prepare(place)
        try:
            os.pwrite(memory, made.data[:size], place)
            return tracee.made(pid, before, step, number, made.arguments)
        finally:
            os.pwrite(memory, kept, place)
    except OSError as error:
        raise InjectionFailed(f"memory of {pid}: {error.strerror}") from None
    finally:
        os.close(memory)
