"""Mounts of a process, from /proc/PID/mountinfo (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re

from ringfence.collect.process import procfs
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.process import Mount

_OCTAL = re.compile(rb"\\([0-7]{3})")


def mounts(pid: int | str) -> Seen[tuple[Mount, ...]]:
    """Every mount in the process's view, in the kernel's order (later ones cover earlier)."""
    source = f"/proc/{pid}/mountinfo"
    try:
        data = procfs.read(pid, "mountinfo")
    except OSError as error:
        return procfs.refused(source, error)
    found = tuple(filter(None, map(parse_line, data.split(b"\n"))))
    return Seen(found, Evidence(Grade.OBSERVED, source, f"{len(found)} mounts"))


def parse_line(line: bytes) -> Mount | None:
    """One line of mountinfo; None if it is malformed. `-` ends the optional fields."""
    # The kernel escapes space, tab, newline and backslash: other white space is part of a name.
    parts = line.split(b" ")
    try:
        dash = parts.index(b"-", 6)
        fstype, source, options = parts[dash + 1 : dash + 4]
    except ValueError:
        return None
    per_mount = frozenset(_text(parts[5]).split(","))
    per_super = frozenset(_text(options).split(","))
    # Read-only on either level forbids writing; the other flags live on the mount alone.
    both = per_mount | (per_super & {"ro"})
    if "ro" in both:
        both -= {"rw"}
    return Mount(
        _text(parts[4]), _text(parts[3]), _text(fstype), _text(source), both, _text(parts[2])
    )


def _text(raw: bytes) -> str:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), raw).decode("utf-8", "replace")


def covering(found: tuple[Mount, ...], path: str) -> Mount | None:
    """The mount that a path lies on: the last one listed of the longest fitting mount points."""
    best: Mount | None = None
    for item in found:
        prefix = item.path.rstrip("/") + "/"
        fits = path == item.path or path.startswith(prefix)
        if fits and (best is None or len(item.path) >= len(best.path)):
            best = item
    return best
