"""How an architecture makes system calls, and what a thread's registers are called there.

struct user_regs_struct of x86-64 (sys/user.h), struct user_pt_regs of arm64
(include/uapi/asm/ptrace.h).
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from typing import Any

from ringfence.errors import MissingError

U64 = (1 << 64) - 1


class X86Registers(ctypes.Structure):
    """struct user_regs_struct."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs "
        "eflags rsp ss fs_base gs_base ds es fs gs".split()
    )


class ArmRegisters(ctypes.Structure):
    """struct user_pt_regs."""

    _fields_ = (
        *((f"x{number}", ctypes.c_uint64) for number in range(31)),
        ("sp", ctypes.c_uint64),
        ("pc", ctypes.c_uint64),
        ("pstate", ctypes.c_uint64),
    )


class Machine:
    """How system calls are made on an architecture. `restarted` makes the registers of a thread
    that was stopped in a call that is never begun again those with which it is."""

    def __init__(
        self,
        registers: type[ctypes.Structure],
        arguments: tuple[str, ...],
        number: str,
        result: str,
        counter: str,
        stack: str,
        instruction: bytes,
        restarted: Callable[[Any], None],
    ) -> None:
        self.registers = registers
        self.arguments = arguments
        self.number = number
        self.result = result
        self.counter = counter
        self.stack = stack
        self.instruction = instruction
        self.restarted = restarted


NEVER_RESTARTED = frozenset({65, 128, 220, 232, 281, 441})
"""semop, rt_sigtimedwait, semtimedop, epoll_wait, epoll_pwait, epoll_pwait2: they answer EINTR
even to a stop (signal(7)), which a program that knows of no signal does not expect."""
EINTR = 4


def _restarted_x86(regs: Any) -> None:
    """All other calls the kernel begins again by itself (arch/x86/kernel/signal.c)."""
    if (1 << 64) - regs.rax == EINTR and regs.orig_rax in NEVER_RESTARTED:
        regs.rax, regs.rip, regs.orig_rax = regs.orig_rax, regs.rip - 2, U64


def _restarted_arm(regs: Any) -> None:
    """Nothing: arm64 has lost the first argument by then (arch/arm64/kernel/signal.c)."""


MACHINES = {
    "x86_64": Machine(
        X86Registers, ("rdi", "rsi", "rdx", "r10", "r8", "r9"), "rax", "rax", "rip", "rsp",
        b"\x0f\x05", _restarted_x86,
    ),
    "aarch64": Machine(
        ArmRegisters, tuple(f"x{number}" for number in range(6)), "x8", "x0", "pc", "sp",
        b"\x01\x00\x00\xd4", _restarted_arm,
    ),
}  # fmt: skip


def machine() -> Machine:
    """This machine's. Raises MissingError for one that is not known here."""
    found = MACHINES.get(platform.machine())
    if found is None:
        raise MissingError(f"driving another process is not written for {platform.machine()}")
    return found
