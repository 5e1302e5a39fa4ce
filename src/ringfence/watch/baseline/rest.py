"""Files at rest: what was not touched since before a pass began needs to be looked at but once.

A file that is read between two statuses, both the same, was in one state meanwhile. The first of
them tells nothing more where the second has a time of change (ctime) from before the pass: every
write sets it, before the content changes, and nobody sets it to anything but the clock's time.
That holds where the file system takes that time from this kernel's clock, and while nobody sets
the clock back (`Clock`); elsewhere a file is looked at twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

import msgspec

from ringfence.mountinfo import Row

OWN_CLOCK = frozenset({"ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs"})
"""Types of file systems of one kernel alone, which report the device that is mounted (st_dev)."""
MARGIN = 1_000_000_000
"""Nanoseconds before a pass: kernels stamp files with a clock that lags by a tick (10 ms)."""


class Clock(msgspec.Struct, frozen=True):
    """When a pass began, in nanoseconds since 1970, and how far that is from the time since this
    machine was started, which nobody can set."""

    began: int
    ahead: int

    @property
    def settled(self) -> int:
        """A ctime before this one is from before the pass."""
        return self.began - MARGIN

    def set_back(self) -> bool:
        """Whether the clock was set back since, by so much that `settled` no longer says it."""
        return _ahead() < self.ahead - MARGIN // 2


def clock() -> Clock:
    """The clock now."""
    return Clock(time.time_ns(), _ahead())


def _ahead() -> int:
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def own_clock(mounts: Iterable[Row]) -> frozenset[int]:
    """Devices (st_dev) of the file systems among `mounts` with this kernel's clock."""
    found = set()
    for row in mounts:
        if row.kind.decode("ascii", "replace") in OWN_CLOCK:
            major, colon, minor = row.device.partition(b":")
            if colon and major.isdigit() and minor.isdigit():
                found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)
