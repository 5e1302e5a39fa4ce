"""Work done by a thread of ours inside a container's network namespace."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from ringfence.collect.process.apart import apart
from ringfence.run import kernel

T = TypeVar("T")


def in_network(pid: int, work: Callable[[], T]) -> T:
    """The result of `work`, called in the network namespace of process `pid`.

    Namespaces are a thread's own, so only the one thread moves. Raises what `work` raises.
    """

    def task() -> T:
        handle = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel.setns(handle, kernel.CLONE_NEWNET)
        finally:
            os.close(handle)
        return work()

    return apart(task)
