"""Work done by a thread of ours inside one of another process's namespaces."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import TypeVar

from ringfence.collect.process.apart import apart

T = TypeVar("T")
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
_KINDS = {"net": CLONE_NEWNET, "pid": CLONE_NEWPID}
_libc = ctypes.CDLL(None, use_errno=True)


def setns(handle: int, kind: int) -> None:
    """setns(2): the calling thread joins the namespace of a descriptor. Raises OSError."""
    if _libc.setns(handle, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def in_namespace(pid: int, kind: str, work: Callable[[], T]) -> T:
    """The result of `work`, called in a namespace of process `pid`: `net`, or `pid`, in which only
    what `work` starts then is (setns(2)).

    Namespaces are a thread's own, so only the one thread moves. Raises what `work` raises, and
    OSError when that namespace may not be entered.
    """

    def task() -> T:
        handle = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(handle, _KINDS[kind])
        finally:
            os.close(handle)
        return work()

    return apart(task)


def in_network(pid: int, work: Callable[[], T]) -> T:
    """The same in its network namespace."""
    return in_namespace(pid, "net", work)
