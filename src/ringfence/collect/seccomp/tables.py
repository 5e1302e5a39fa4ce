"""System call tables and the architectures that seccomp filters tell apart."""

from __future__ import annotations

import functools
import platform
import tomllib
from importlib import resources

AUDIT_ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* of include/uapi/linux/audit.h: what a filter reads at offset 4."""

X32_BIT = 0x40000000
"""Set in the number of an x32 call, which has x86-64's AUDIT_ARCH."""

FOREIGN = {"x86_64": ("i386",)}
"""Other architectures whose calls a process of this one can make."""

MULTIPLEXED = {
    "i386": {
        "socket": ("socketcall", 1),
        "bind": ("socketcall", 2),
        "connect": ("socketcall", 3),
        "listen": ("socketcall", 4),
        "socketpair": ("socketcall", 8),
        "sendto": ("socketcall", 11),
        "setsockopt": ("socketcall", 14),
        "getsockopt": ("socketcall", 15),
        "sendmsg": ("socketcall", 16),
        "semget": ("ipc", 2),
        "msgget": ("ipc", 13),
        "shmget": ("ipc", 23),
    }
}
"""Calls that an architecture can also make through another one, and the first argument that
selects them; what socketcall(2) hands on lies in memory, where no filter looks
(include/uapi/linux/net.h, ipc.h)."""


def native() -> str:
    """The architecture of this machine, x86_64 where it is none that is known here."""
    machine = platform.machine()
    return machine if machine in AUDIT_ARCH else "x86_64"


@functools.cache
def calls_of(architecture: str) -> dict[str, int]:
    """Name -> number of every system call of an architecture."""
    file = resources.files("ringfence.knowledge").joinpath(f"syscalls/{architecture}.toml")
    return tomllib.loads(file.read_text())


def native_calls() -> dict[str, int]:
    """Name -> number of every system call of this machine."""
    return calls_of(native())


@functools.cache
def native_names() -> dict[int, str]:
    """Number -> name of every system call of this machine."""
    return {number: name for name, number in native_calls().items()}
