"""Which system calls the running kernel has, and in which ABIs: each is made once, by a child of
ours.

The child is nobody, in a session of its own, with nothing open: what it is answered shows only
whether there is such a call (anything but ENOSYS), and that is a fact of the kernel, whatever
confines the workload. Arguments are such that no call can succeed; calls that would end the child
or wait are taken for granted, since every Linux has them.
"""

from __future__ import annotations

import errno
import functools

from ringfence.collect.seccomp.tables import native_calls
from ringfence.probe.abi import ABIS, Abi, forms
from ringfence.probe.driven import Blocked, Driven, Killed, Worthless
from ringfence.probe.oracle import EXEMPT
from ringfence.probe.priority import preferred
from ringfence.run.tracee import Ended, InjectionFailed

NOBODY = 65534
BEYOND = 600
"""Numbers are tried up to here: newer kernels have calls that no table of ours knows."""
X32 = range(512, 548)
"""Numbers of x32 alone (arch/x86/entry/syscalls/syscall_64.tbl)."""
GRANTED = frozenset({"exit", "exit_group", "pause", "rt_sigreturn", "sync", "vhangup", "fork",
                     "vfork", "restart_syscall"})  # fmt: skip
USUAL = (-1,) * 6
ARGUMENTS = {
    "modify_ldt": (0, 0, 0, 0, 0, 0), "clone": (0x200, 0, 0, 0, 0, 0),
    "munmap": (1, 0, 0, 0, 0, 0), "kill": (0, -1, 0, 0, 0, 0), "setsid": (0,) * 6,
    "quotactl": (0, -1, 0, -1, 0, 0), "sysfs": (3, 0, 0, 0, 0, 0),
    "msgget": (-1, 0, 0, 0, 0, 0),  # -1 as its flags would make a queue
    "arch_prctl": (0x1003, -1, 0, 0, 0, 0), "set_thread_area": (-1, 0, 0, 0, 0, 0),
}  # fmt: skip
"""Where -1 everywhere does not reach the call, or reaches too far."""
OTHER_TRIES = ((0,) * 6, (1, -1, -1, -1, -1, -1), (0, -1, -1, -1, -1, -1))


def kernel_table(zygote: Driven) -> dict[str, bool]:
    """Name -> whether the kernel has the call; calls without a name as `call-470`. `zygote` is an
    unconfined process of ours. Raises InjectionFailed."""
    names = {number: name for name, number in (EXEMPT | native_calls()).items()}
    with preferred():
        numbers = _numbers(zygote, frozenset(names.items()))
    return {
        names.get(number, f"call-{number}"): found
        for number, found in numbers.items()
        if found or number in names
    }


def offered_abis(zygote: Driven) -> tuple[Abi, ...]:
    """Other ABIs that the kernel offers. `zygote` is an unconfined process of ours. Raises
    InjectionFailed."""
    return tuple(abi for abi in ABIS if _offered(zygote, abi))


def _offered(zygote: Driven, abi: Abi) -> bool:
    with zygote.fork() as child:
        try:
            return child.call_as(abi, forms(abi, "getppid")[0].number) >= 0
        except (Ended, Worthless):
            raise
        except InjectionFailed:
            return False  # without CONFIG_IA32_EMULATION, int 0x80 is a fault (SIGSEGV)


@functools.cache
def _known(names: frozenset[tuple[int, str]]) -> dict[int, str]:
    return dict(names)


def _numbers(zygote: Driven, names: frozenset[tuple[int, str]]) -> dict[int, bool]:
    known = _known(names)
    found: dict[int, bool] = {}
    child: Driven | None = None
    for number in range(BEYOND):
        name = known.get(number, "")
        if name in GRANTED:
            found[number] = True
            continue
        if number in X32 and not name:
            continue
        for values in (ARGUMENTS.get(name, USUAL), *OTHER_TRIES):
            child = child or _nobody(zygote)
            try:
                found[number] = child.call(number, *values) != -errno.ENOSYS
            except (Killed, Blocked):
                found[number] = True
                child.close()
                child = None
            if found[number]:
                break
    if child is not None:
        child.close()
    return found


def _nobody(zygote: Driven) -> Driven:
    child = zygote.fork()
    child.call("setsid")
    child.call("setgroups", 0, 0)
    child.call("setresgid", NOBODY, NOBODY, NOBODY)
    child.call("setresuid", NOBODY, NOBODY, NOBODY)
    return child
