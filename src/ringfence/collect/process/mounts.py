"""Mounts of a process, from its /proc/PID/mountinfo."""

from __future__ import annotations

from ringfence.collect.process import procfs
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.process import Mount
from ringfence.mountinfo import Row, reached, rows


def mounts(pid: int | str) -> Seen[tuple[Mount, ...]]:
    """Every mount of the process's mount namespace below its root directory, hidden ones too."""
    source = f"/proc/{pid}/mountinfo"
    try:
        data = procfs.whole(pid, "mountinfo")
    except OSError as error:
        return procfs.refused(source, error)
    found = parsed(data)
    return Seen(found, Evidence(Grade.OBSERVED, source, f"{len(found)} mounts"))


def parsed(table: bytes) -> tuple[Mount, ...]:
    """The mounts of a mountinfo file."""
    found = rows(table)
    seen = reached(found)
    return tuple(_mount(row, row.number not in seen) for row in found)


def _mount(row: Row, hidden: bool) -> Mount:
    per_mount = frozenset(_text(row.options).split(","))
    per_super = frozenset(_text(row.of_all).split(","))
    # Read-only on either level forbids writing; the other flags live on the mount alone.
    both = per_mount | (per_super & {"ro"})
    if "ro" in both:
        both -= {"rw"}
    return Mount(
        _text(row.point), _text(row.root), _text(row.kind), _text(row.source), both,
        _text(row.device), hidden, row.number,
    )  # fmt: skip


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
