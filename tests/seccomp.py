"""Real processes under real seccomp filters, for tests: installed with prctl(2), no library."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
from collections.abc import Callable, Iterator

from ringfence.collect.seccomp.tables import AUDIT_ARCH, native

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD_NUMBER, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000

Instruction = tuple[int, int, int, int]


def refusing(number: int, errno: int = 1) -> list[Instruction]:
    """A filter that refuses one system call by its number and allows all others."""
    return [
        (LOAD_NUMBER, 0, 0, 0),
        (JUMP_EQUAL, 0, 1, number),
        (RETURN, 0, 0, ERRNO | errno),
        (RETURN, 0, 0, ALLOW),
    ]


def native_refusing(*numbers: int, errno: int = 1) -> list[Instruction]:
    """The same for several calls, and for everything that is no native call."""
    checks = [(JUMP_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    return [
        (LOAD_NUMBER, 0, 0, 4),
        (JUMP_EQUAL, 0, len(numbers) + 2, AUDIT_ARCH[native()]),
        (LOAD_NUMBER, 0, 0, 0),
        *checks,
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ERRNO | errno),
    ]


def encoded(program: list[Instruction]) -> bytes:
    """A program as the kernel takes it: struct sock_filter, eight bytes each."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def install(program: list[Instruction]) -> None:
    """Put a filter on this thread, for good."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    data = ctypes.create_string_buffer(encoded(program))
    length = struct.pack("=HxxxxxxQ", len(program), ctypes.addressof(data))
    description = ctypes.create_string_buffer(length)
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.addressof(description), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


@contextlib.contextmanager
def child(prepare: Callable[[], None]) -> Iterator[int]:
    """A child that runs `prepare` and then waits; killed afterwards."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            os.write(tell, b"1")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    try:
        if os.read(ready, 1) != b"1":
            raise AssertionError("the child could not prepare itself")
        yield pid
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def filtered_child(stack: int = 1, refused: int = 165) -> Iterator[int]:
    """A child with `stack` filters, each of which refuses one call from mount(2) upwards."""

    def prepare() -> None:
        for index in range(stack):
            install(refusing(refused + index))

    with child(prepare) as pid:
        yield pid
