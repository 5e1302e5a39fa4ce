"""A container's name, by the cgroups that its processes are in (cgroups(7)). Pure."""

from __future__ import annotations

import re

_ID = re.compile(r"[0-9a-f]{64}|[0-9a-f]{32}")
_SCOPE = re.compile(r"(?:docker|libpod|crio|cri-containerd)-([0-9a-f]{64})\.scope")


def container_of(cgroup: str, ours: str = "") -> str:
    """The container's id or name by a /proc/PID/cgroup: as engines name scopes, else the last
    part of the longest path. What encloses this process, too (`ours`, its own /proc/PID/cgroup),
    is no name of another's."""
    around = _cgroups(ours)
    paths = [_beyond(path, around.get(which, [])) for which, path in _cgroups(cgroup).items()]
    for parts in paths:
        found = _SCOPE.search("/".join(parts))
        if found:
            return found[1]
    parts = max(paths, key=lambda found: len("/".join(found)), default=[])
    return next((part for part in reversed(parts) if _ID.fullmatch(part)),
                parts[-1] if parts else "")  # fmt: skip


def _cgroups(text: str) -> dict[str, list[str]]:
    """Hierarchy -> the parts of the path in it (cgroups(7))."""
    rows = [line.split(":", 2) for line in text.split("\n") if line.count(":") >= 2]
    return {f"{row[0]}:{row[1]}": [part for part in row[2].split("/") if part] for row in rows}


def _beyond(parts: list[str], around: list[str]) -> list[str]:
    while parts and around and parts[0] == around[0]:
        parts, around = parts[1:], around[1:]
    return parts
