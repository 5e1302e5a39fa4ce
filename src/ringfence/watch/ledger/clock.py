"""The clocks, and whether somebody set the wall clock between two readings."""

from __future__ import annotations

import functools
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

TOLERANCE = 500_000
"""Microseconds by which both clocks may differ before it is called a jump."""
_EPOCH = datetime(1970, 1, 1)
"""Without a time zone: the Z is put there by hand, which is quicker."""


class Reading(msgspec.Struct, frozen=True):
    """`wall`: microseconds since 1970 (CLOCK_REALTIME); `up`: since the boot, with suspended time
    (CLOCK_BOOTTIME); `boot`: the kernel's boot id."""

    wall: int
    up: int
    boot: str


def read_clock() -> Reading:
    """Now. Between both calls a scheduler may come: TOLERANCE is far above that."""
    wall = time.clock_gettime_ns(time.CLOCK_REALTIME) // 1000
    return Reading(wall, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000, boot_id())


@functools.cache
def boot_id() -> str:
    """The kernel's boot id (random(4)); empty where /proc is not mounted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def shown(wall: int) -> str:
    """Microseconds since 1970 as `2026-11-24T20:44:00.123456Z` (RFC 3339)."""
    return (_EPOCH + timedelta(microseconds=wall)).isoformat(timespec="microseconds") + "Z"


def parsed(text: str) -> int:
    """The opposite of `shown`. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def jump(before: Reading, now: Reading) -> int:
    """Microseconds by which the wall clock was set in between, negative for back; 0 for none.

    Within one boot the other clock tells how much time passed. Across a boot only a wall clock
    that reads less than before is known to have been set.
    """
    moved = now.wall - before.wall
    if now.boot == before.boot and now.up >= before.up:
        drift = moved - (now.up - before.up)
        return drift if abs(drift) > TOLERANCE or moved < 0 else 0
    return min(moved, 0)
