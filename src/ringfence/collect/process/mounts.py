"""Mounts of a process, from its /proc/PID/mountinfo."""

from __future__ import annotations

from ringfence.collect.process import procfs
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.process import Mount
from ringfence.mountinfo import Row, rows


def mounts(pid: int | str) -> Seen[tuple[Mount, ...]]:
    """Every mount in the process's view, in the kernel's order (later ones cover earlier)."""
    source = f"/proc/{pid}/mountinfo"
    try:
        data = procfs.read(pid, "mountinfo")
    except OSError as error:
        return procfs.refused(source, error)
    found = parsed(data)
    return Seen(found, Evidence(Grade.OBSERVED, source, f"{len(found)} mounts"))


def parsed(table: bytes) -> tuple[Mount, ...]:
    """The mounts of a mountinfo file."""
    return tuple(map(_mount, rows(table)))


def _mount(row: Row) -> Mount:
    per_mount = frozenset(_text(row.options).split(","))
    per_super = frozenset(_text(row.of_all).split(","))
    # Read-only on either level forbids writing; the other flags live on the mount alone.
    both = per_mount | (per_super & {"ro"})
    if "ro" in both:
        both -= {"rw"}
    return Mount(
        _text(row.point), _text(row.root), _text(row.kind), _text(row.source), both,
        _text(row.device),
    )  # fmt: skip


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def covering(found: tuple[Mount, ...], path: str) -> Mount | None:
    """The mount that a path lies on: the last one listed of the longest fitting mount points."""
    best: Mount | None = None
    for item in found:
        prefix = item.path.rstrip("/") + "/"
        fits = path == item.path or path.startswith(prefix)
        if fits and (best is None or len(item.path) >= len(best.path)):
            best = item
    return best
