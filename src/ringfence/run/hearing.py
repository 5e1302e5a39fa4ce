"""Which signals reach the first process of a PID namespace."""

from __future__ import annotations

import signal
from pathlib import Path


def hears(pid: int, number: signal.Signals) -> bool:
    """Whether the process handles a signal or keeps it for later (SigCgt and SigBlk of proc(5)).

    To the first process of a namespace the kernel delivers no other, but for SIGKILL and SIGSTOP
    (pid_namespaces(7)). False also for a process that has ended.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    rows = (line.split() for line in text.splitlines())
    masks = [int(row[1], 16) for row in rows if row and row[0] in ("SigCgt:", "SigBlk:")]
    return any(mask >> (number - 1) & 1 for mask in masks)
