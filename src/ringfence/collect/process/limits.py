"""cgroup limits of a process, from version 1 or 2 hierarchies, and its device rules."""

from __future__ import annotations

import functools
from pathlib import Path

from ringfence.collect.process import procfs
from ringfence.collect.process.mounts import mounts
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.process import Limits

NO_LIMIT = 1 << 60
"""Version 1 writes about 2**63 where there is no memory limit."""


def limits(pid: int) -> Seen[Limits]:
    """The limits of the process's own cgroup (those of its ancestors may be lower)."""
    source = f"/proc/{pid}/cgroup"
    try:
        groups = _groups(procfs.whole(pid, "cgroup"))
    except OSError as error:
        return procfs.refused(source, error)
    return Seen(
        Limits(
            memory_bytes=_number(groups, "memory", "memory.limit_in_bytes", "memory.max"),
            pids=_number(groups, "pids", "pids.max", "pids.max"),
            cpu_quota=_cpu(groups),
            cgroup=groups.get("") or groups.get("memory") or "/",
            evidence=Evidence(Grade.OBSERVED, source),
            devices=_devices(groups, source),
        ),
        Evidence(Grade.OBSERVED, source),
    )


def _devices(groups: dict[str, str], source: str) -> Seen[tuple[str, ...]]:
    """Version 1's devices.list. Version 2 keeps device rules in a BPF program, which shows none."""
    text = _read(groups, "devices", "devices.list")
    if text is None:
        why = "its device cgroup cannot be read"
        if "devices" not in groups:
            why = "the device rules of version 2 are a program, which does not show them"
        return Seen(None, Evidence(Grade.ASSUMED, source, why))
    path = f"{_hierarchies()['devices']}{groups['devices']}/devices.list"
    return Seen(tuple(text.splitlines()), Evidence(Grade.OBSERVED, path))


def _groups(data: bytes) -> dict[str, str]:
    """Controller -> path of the cgroup; the unified hierarchy under ''."""
    found: dict[str, str] = {}
    for row in procfs.rows(data):
        parts = row.split(":", 2)
        if len(parts) < 3:
            continue
        for controller in parts[1].split(","):
            found[controller.removeprefix("name=")] = parts[2]
    return found


@functools.cache
def _hierarchies() -> dict[str, str]:
    """Controller -> mount point as Ringfence sees it; the unified hierarchy under ''.

    A mount of a part alone (of a container's own cgroup) does not have the paths of /proc.
    """
    found: dict[str, str] = {}
    for item in mounts("self").value or ():
        if item.root != "/" or item.hidden:
            continue
        if item.fstype == "cgroup2":
            found[""] = item.path
        elif item.fstype == "cgroup":
            found[item.path.rsplit("/", 1)[-1]] = item.path
    return found


def _read(groups: dict[str, str], controller: str, name: str) -> str | None:
    top = _hierarchies().get(controller)
    if top is None or controller not in groups:
        return None
    try:
        return Path(f"{top}{groups[controller]}/{name}").read_text().strip()
    except OSError:
        return None


def _number(groups: dict[str, str], controller: str, old: str, new: str) -> int | None:
    text = _read(groups, controller, old) or _read(groups, "", new)
    if text is None or not text.isdigit() or int(text) >= NO_LIMIT:
        return None
    return int(text)


def _cpu(groups: dict[str, str]) -> float | None:
    """Share of one processor: quota divided by period."""
    old, period = (
        _read(groups, "cpu", "cpu.cfs_quota_us"),
        _read(groups, "cpu", "cpu.cfs_period_us"),
    )
    if old and period and old != "-1":
        return int(old) / int(period)
    new = (_read(groups, "", "cpu.max") or "max").split()
    return int(new[0]) / int(new[1]) if new[0] != "max" and len(new) == 2 else None
