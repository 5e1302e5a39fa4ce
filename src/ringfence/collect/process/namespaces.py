"""Namespaces of a process, compared with those of init.

The kernel's first namespaces have fixed inode numbers (include/linux/proc_ns.h; for mnt and net
since Linux 6.18, include/uapi/linux/nsfs.h), so a process can be compared with init even where
/proc/1 may not be read, or where Ringfence itself stands in a PID namespace of its own.
"""

from __future__ import annotations

import functools

from ringfence.collect.process import procfs
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.process import Namespace

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
FIRST = {
    "time": 0xEFFFFFFA,
    "cgroup": 0xEFFFFFFB,
    "pid": 0xEFFFFFFC,
    "user": 0xEFFFFFFD,
    "uts": 0xEFFFFFFE,
    "ipc": 0xEFFFFFFF,
}
FIRST_SINCE_6_18 = {"net": 0xEFFFFFF9, "mnt": 0xEFFFFFF8}


def namespaces(pid: int) -> tuple[Namespace, ...]:
    """Every namespace of the process that this kernel has; unreadable ones have no inode."""
    found = []
    for kind in KINDS:
        source = f"/proc/{pid}/ns/{kind}"
        try:
            inode = inode_in(procfs.link(pid, f"ns/{kind}"))
        except FileNotFoundError:
            continue
        except OSError as error:
            found.append(Namespace(kind, None, procfs.refused(source, error)))
            continue
        found.append(Namespace(kind, inode, _shared(kind, inode, source)))
    return tuple(found)


def inode_of(pid: int | str, kind: str) -> int | None:
    """The inode of one namespace of a process, or None where it may not be read."""
    try:
        return inode_in(procfs.link(pid, f"ns/{kind}"))
    except (OSError, procfs.Vanished):
        return None


def inode_in(text: str) -> int:
    """The inode in what a link to a namespace says: `mnt:[4026531832]`."""
    return int(text.partition("[")[2].rstrip("]"))


def of_host(kind: str, inode: int) -> bool:
    """Whether this is init's namespace, or else Ringfence's own."""
    return _shared(kind, inode, "").value is True or inode == inode_of("self", kind)


def _shared(kind: str, inode: int, source: str) -> Seen[bool]:
    fixed = FIRST.get(kind)
    if fixed is not None:
        detail = f"{kind}:[{inode}], the first one is [{fixed}]"
        return Seen(inode == fixed, Evidence(Grade.OBSERVED, source, detail))
    if inode == FIRST_SINCE_6_18[kind]:
        return Seen(True, Evidence(Grade.OBSERVED, source, f"{kind}:[{inode}] is the first one"))
    init = _init(kind)
    if init is not None:
        detail = f"{kind}:[{inode}], that of init is [{init}]"
        return Seen(inode == init, Evidence(Grade.OBSERVED, source, detail))
    own = inode_of("self", kind)
    if own == FIRST_SINCE_6_18[kind]:
        detail = f"{kind}:[{inode}], the first one is [{own}]"
        return Seen(False, Evidence(Grade.OBSERVED, source, detail))
    detail = f"init may not be read; compared with Ringfence's own {kind}:[{own}]"
    return Seen(inode == own, Evidence(Grade.ASSUMED, source, detail))


@functools.cache
def _init(kind: str) -> int | None:
    """Init's namespace, if /proc/1 is the real init (in the first PID namespace) and readable."""
    if inode_of("self", "pid") != FIRST["pid"]:
        return None
    return inode_of(1, kind)
