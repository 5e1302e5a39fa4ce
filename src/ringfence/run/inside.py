"""Work done by a thread of ours inside one of a container's namespaces."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from ringfence.collect.process.apart import apart
from ringfence.run import kernel

T = TypeVar("T")
_KINDS = {"net": kernel.CLONE_NEWNET, "pid": kernel.CLONE_NEWPID}


def in_namespace(pid: int, kind: str, work: Callable[[], T]) -> T:
    """The result of `work`, called in a namespace of process `pid`: `net`, or `pid`, in which only
    what `work` starts then is (setns(2)).

    Namespaces are a thread's own, so only the one thread moves. Raises what `work` raises.
    """

    def task() -> T:
        handle = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel.setns(handle, _KINDS[kind])
        finally:
            os.close(handle)
        return work()

    return apart(task)


def in_network(pid: int, work: Callable[[], T]) -> T:
    """The same in its network namespace."""
    return in_namespace(pid, "net", work)
