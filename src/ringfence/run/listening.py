"""Which ports a container listens on: the sign that its service is up."""

from __future__ import annotations

import contextlib
from pathlib import Path


def listening(pid: int) -> frozenset[int]:
    """Ports that listen in the network namespace of a process (proc_net_tcp(5))."""
    found = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                row = line.split()
                if row[3] == "0A":
                    found.add(int(row[1].rpartition(":")[2], 16))
    return frozenset(found)
