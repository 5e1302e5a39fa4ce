"""Which processes belong to a running container.

Not only what stems from its first process: what an engine starts in it later (`exec`) has its
parent outside. Such a process is in the container's PID namespace, or, where the container shares
another one's, in its cgroup.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ringfence.collect.process import procfs
from ringfence.collect.process.namespaces import inode_of
from ringfence.collect.process.tree import descendants
from ringfence.model.evidence import Unseen

Inside = Callable[[int], bool]


def membership(pid: int) -> tuple[Callable[[], list[int]], tuple[Unseen, ...]]:
    """What tells the members of the container whose first process is `pid`, that one first, and
    what it cannot see. What it gives raises InputError once that process is gone."""
    inside = inside_of(pid)
    if inside is None:
        what = "processes that an engine started in the container later"
        why = "it has neither a PID namespace nor a cgroup of its own"
        return lambda: descendants(pid), (Unseen(what, why),)
    return lambda: _members(pid, inside), ()


def inside_of(pid: int) -> Inside | None:
    """Whether another process is of the container whose first one is `pid`: by its PID namespace,
    or else its cgroup; None where it has neither for itself."""
    return _by_namespace(pid) or _by_cgroup(pid)


def _members(pid: int, inside: Inside) -> list[int]:
    found = dict.fromkeys(descendants(pid))
    for other in sorted(map(procfs.living, procfs.pids())):
        if other not in found and inside(other):
            found[other] = None
            found.update(dict.fromkeys(map(procfs.living, sorted(procfs.below(other)))))
    return list(found)


def _by_namespace(pid: int) -> Inside | None:
    """By the PID namespace, where the first process is that namespace's init as well: no other
    container's, and not the reader's own."""
    try:
        numbers = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))["NSpid"]
    except (OSError, procfs.Vanished, KeyError):
        return None
    space = inode_of(pid, "pid")
    if numbers.split()[-1] != "1" or space in (None, inode_of("self", "pid")):
        return None
    return lambda other: inode_of(other, "pid") == space


def _by_cgroup(pid: int) -> Inside | None:
    """By the cgroups in which neither the reader is nor what started the container."""
    fields = procfs.stat(pid)
    strangers = _cgroups(os.getpid()) | (_cgroups(int(fields[1])) if fields else set())
    own = {group for group in _cgroups(pid) - strangers if not group.endswith(":/")}
    if not own:
        return None
    return lambda other: any(
        theirs == ours or theirs.startswith(f"{ours}/")
        for theirs in _cgroups(other)
        for ours in own
    )


def _cgroups(pid: int) -> set[str]:
    """The lines of /proc/PID/cgroup, `hierarchy:controllers:path`."""
    try:
        return set(procfs.rows(procfs.read(pid, "cgroup")))
    except (OSError, procfs.Vanished):
        return set()
