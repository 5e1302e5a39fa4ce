"""Which processes are a target's, also of those that have ended before they are asked about.

A process that a system call filter killed has mostly ended when its denial can be read. What is
known of it then is what was seen under its number, or who began it, as far as the kernel tells of
that (the process connector).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

import msgspec

from ringfence.collect.container.members import inside_of
from ringfence.watch.baseline.targets import Target
from ringfence.watch.live.descent import Descent
from ringfence.watch.live.looks import began_before, link, read_stat
from ringfence.watch.live.roster import Roster
from ringfence.watch.live.verdicts import BEGUN, SEEN, UNKNOWN

DEEPEST = 64
NS_GET_PARENT = 0xB702
"""linux/nsfs.h."""
Inside = Callable[[int], bool | None]
"""Whether a living process is of the target, None where there is none of this number."""


class _Kin(msgspec.Struct, frozen=True):
    """`inside` as it was seen, None where it was not; the process that began it, 0 for unknown."""

    inside: bool | None
    parent: int


class Company:
    """The processes of one target. `started` is for `Execs`."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._known: Roster[_Kin] = Roster(lambda pid, _: bool(inside(pid)))

    def look(self) -> None:
        """See all that live now."""
        for pid in self._known.all_now():
            if self._inside(pid):
                self._known.put(pid, _Kin(True, 0))

    def stale(self) -> None:
        """See all that live now, if that is long ago."""
        if self._known.due():
            self.look()

    def started(self, parent: int, pid: int) -> None:
        """`parent` began `pid`; 0 where it is the same process with another program; both 0 where
        not all of this was heard."""
        if pid == 0:
            self._known.clear()
            self.look()
            return
        former = self._known.get(pid)
        if parent == 0:
            seen = self._inside(pid)
            if seen is not None:
                self._known.put(pid, _Kin(seen, former.parent if former else 0))
        else:
            self._known.put(pid, _Kin(self._inside(pid), parent))

    def judge(self, pid: int, wall: int) -> str | None:
        """Whether the process that had this number at `wall` (microseconds since 1970) is of the
        target: '' for yes, None for no, and why it is not sure."""
        stat = read_stat(pid)
        if stat is not None and began_before(stat.started, wall):
            seen = self._inside(pid)
            if seen is not None:
                return "" if seen else None
        kin = self._known.get(pid)
        if kin is not None and kin.inside is not None:
            return SEEN if kin.inside else None
        for _ in range(DEEPEST):
            if kin is None or kin.parent == 0:
                break
            parent, kin = kin.parent, self._known.get(kin.parent)
            seen = kin.inside if kin is not None and kin.inside is not None else None
            seen = self._inside(parent) if seen is None else seen
            if seen is not None:
                return BEGUN if seen else None
        return UNKNOWN


def company(target: Target, root: int) -> Company | Descent | None:
    """The processes of a target, None for a host, whose are all. A directory's are those that have
    it as their root; `root` is a descriptor of it."""
    if target.kind == "host":
        return None
    if target.kind in ("container", "process"):
        return of_process(int(target.root.parent.name))
    return Company(_rooted(os.fstat(root)))


def of_process(first: int) -> Company | Descent:
    """Of the container whose first process is `first`: its PID namespace with those within it, or
    else its cgroup, or else all that stems from it."""
    own = inside_of(first)
    return Company(_in_place(first, own)) if own is not None else Descent(first)


def _in_place(first: int, own: Callable[[int], bool]) -> Inside:
    space = link(first, "ns/pid")

    def inside(pid: int) -> bool | None:
        found = link(pid, "ns/pid")
        if not found:
            return None
        return own(pid) or _within(pid, found, space)

    return inside


def _within(pid: int, found: str, space: str) -> bool:
    """Whether its PID namespace, `found`, is below `space`, and that is not ours."""
    if found == space or link("self", "ns/pid") in (found, space):
        return False
    handles: list[int] = []
    try:
        handles.append(os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC))
        for _ in range(DEEPEST):
            if f"pid:[{os.fstat(handles[-1]).st_ino}]" == space:
                return True
            handles.append(fcntl.ioctl(handles[-1], NS_GET_PARENT))
    except OSError:  # above ours, or it has ended
        return False
    finally:
        for handle in handles:
            os.close(handle)
    return False


def _rooted(root: os.stat_result) -> Inside:
    def inside(pid: int) -> bool | None:
        try:
            found = os.stat(f"/proc/{pid}/root")
        except OSError:
            return None
        return (found.st_dev, found.st_ino) == (root.st_dev, root.st_ino)

    return inside
