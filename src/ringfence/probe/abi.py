"""Other ABIs in which a kernel takes the calls of one and the same process: i386 by `int 0x80`,
x32 by a bit of the number. Pure.

A filter that compares numbers alone, and not the architecture, means others there (seccomp(2)).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ringfence.collect.seccomp.bpf import Call, combine, run
from ringfence.collect.seccomp.tables import (
    AUDIT_ARCH,
    MULTIPLEXED,
    X32_BIT,
    calls_of,
    native,
)
from ringfence.collect.seccomp.verdicts import words

WORD = 0xFFFFFFFF
SOMEWHERE = 0x10000
"""In place of addresses, where no call is made with them: filters cannot follow one."""
WIDER = ("32", "64", "_time64")
"""Endings of calls that take wider users, sizes and times, beside those without."""
RENAMED = {"mmap": "mmap2", "newfstatat": "fstatat64"}
X32_OWN = {
    "rt_sigaction": 512, "rt_sigreturn": 513, "ioctl": 514, "readv": 515, "writev": 516,
    "recvfrom": 517, "sendmsg": 518, "recvmsg": 519, "execve": 520, "ptrace": 521,
    "rt_sigpending": 522, "rt_sigtimedwait": 523, "rt_sigqueueinfo": 524, "sigaltstack": 525,
    "timer_create": 526, "mq_notify": 527, "kexec_load": 528, "waitid": 529,
    "set_robust_list": 530, "get_robust_list": 531, "vmsplice": 532, "move_pages": 533,
    "preadv": 534, "pwritev": 535, "rt_tgsigqueueinfo": 536, "recvmmsg": 537, "sendmmsg": 538,
    "process_vm_readv": 539, "process_vm_writev": 540, "setsockopt": 541, "getsockopt": 542,
    "io_setup": 543, "io_submit": 544, "execveat": 545, "preadv2": 546, "pwritev2": 547,
}  # fmt: skip
"""arch/x86/entry/syscalls/syscall_64.tbl."""
MAY_PASS = frozenset({"allow", "log", "trace", "notify"})
"""What filters do with a call that reaches the kernel, or may: words of `bpf.ACTIONS`."""

Values = tuple[int | str | bytes | bytearray, ...]


class Abi(msgspec.Struct, frozen=True):
    """One of them. `architecture` is AUDIT_ARCH_* as filters see it, `registers` those of the
    arguments, `offset` the place of its `instruction` on the page of a process that is driven."""

    name: str
    architecture: int
    instruction: bytes
    registers: tuple[str, ...]
    offset: int


I386 = Abi("i386", AUDIT_ARCH["i386"], b"\xcd\x80", ("rbx", "rcx", "rdx", "rsi", "rdi", "rbp"), 16)
X32 = Abi("x32", AUDIT_ARCH["x86_64"], b"\x0f\x05", ("rdi", "rsi", "rdx", "r10", "r8", "r9"), 0)
ABIS = (I386, X32) if native() == "x86_64" else ()
"""Those of this machine: whether its kernel offers them, only a call tells."""


class Form(msgspec.Struct, frozen=True):
    """A call of an ABI that comes to the same as one of this machine's. Of one that is `carried`
    by another call, the first argument selects it, and its own lie in memory, where no filter
    looks."""

    number: int
    values: tuple[int, ...]
    carried: bool = False


def forms(abi: Abi, name: str, arguments: Values = ()) -> tuple[Form, ...]:
    """Each call of the ABI that comes to the same as `name` with these arguments."""
    values = tuple(one & WORD if isinstance(one, int) else SOMEWHERE for one in arguments)
    if abi is X32:
        number = X32_OWN.get(name, calls_of("x86_64").get(name))
        return () if number is None else (Form(number | X32_BIT, values),)
    calls = calls_of(abi.name)
    names = (name, *(name + ending for ending in WIDER), RENAMED.get(name, ""))
    found = tuple(Form(calls[one], values) for one in names if one in calls)
    if name in MULTIPLEXED[abi.name]:
        carrier, selector = MULTIPLEXED[abi.name][name]
        found += (Form(calls[carrier], (selector, SOMEWHERE), carried=True),)
    return found


def actions(programs: tuple[bytes, ...], call: Call) -> frozenset[str]:
    """What the filters may do with a call, by its arguments that are not given: words of
    `bpf.ACTIONS`."""
    found = combine([run(program, call) for program in programs])
    return frozenset(outcome.action for outcome in found.outcomes)


def possible(
    programs: tuple[bytes, ...], abi: Abi, name: str, fixed: tuple[tuple[int, int], ...]
) -> Iterator[frozenset[str]]:
    """The same for each form of a call in the ABI; `fixed` are arguments by index and value."""
    for form in forms(abi, name):
        given = ((0, form.values[0]),) if form.carried else fixed
        yield actions(programs, Call(form.number, abi.architecture, words(given)))
