"""Which signals reach the first process of a PID namespace."""

from __future__ import annotations

from ringfence.collect.process import procfs


def hears(pid: int, number: int) -> bool:
    """Whether the process handles a signal or keeps it for later (SigCgt and SigBlk of proc(5)).

    To the first process of a namespace the kernel delivers no other, but for SIGKILL and SIGSTOP
    (pid_namespaces(7)). False also for a process that has ended.
    """
    try:
        fields = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
    except (OSError, procfs.Vanished):
        return False
    masks = (int(fields.get(name, "0"), 16) for name in ("SigCgt", "SigBlk"))
    return any(mask >> (number - 1) & 1 for mask in masks)
