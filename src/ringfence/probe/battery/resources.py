"""Limits: read, never reached."""

from __future__ import annotations

import struct

from ringfence.probe.definition import Inside, Outcome, Probe, closed, opened, unsupported
from ringfence.probe.driven import Argument

GROUP = "resources"
TECHNIQUE = "T1499"
INFINITE = (1 << 64) - 1
LIMITS = {"processes": (6, "RLIMIT_NPROC"), "files": (7, "RLIMIT_NOFILE"),
          "core-dumps": (4, "RLIMIT_CORE"), "file-size": (1, "RLIMIT_FSIZE"),
          "locked-memory": (8, "RLIMIT_MEMLOCK")}  # fmt: skip


def _limit(name: str) -> Probe:
    number, word = LIMITS[name]

    def attempt(inside: Inside) -> Outcome:
        """Reads one of its own limits."""
        now = bytearray(16)
        result = inside.call("prlimit64", 0, number, 0, now)
        if result < 0:
            return inside.judged(result)
        soft, _ = struct.unpack("=QQ", bytes(now))
        return opened(f"{word} is unlimited") if soft == INFINITE else closed(
            f"limit ({word})", f"{soft}")  # fmt: skip

    return Probe(f"resource.{name}", GROUP, f"No limit on {name.replace('-', ' ')}", TECHNIQUE,
                 attempt)  # fmt: skip


def _cgroup(name: str, field: str) -> Probe:
    def attempt(inside: Inside) -> Outcome:
        """Reads a limit of the cgroup that the workload is in, from outside."""
        limits = inside.view.process.limits.value
        if limits is None:
            return unsupported("its cgroup could not be read")
        value = getattr(limits, field)
        return opened("no limit") if value is None else closed(f"cgroup ({field})", f"{value}")

    return Probe(f"resource.cgroup-{name}", GROUP, f"No limit of its cgroup on {name}", TECHNIQUE,
                 attempt, (f"limit:{name}-absent",), (f"limit:{name}-absent",))  # fmt: skip


def fork(inside: Inside) -> Outcome:
    """Asks the filter whether a child could be made; none is."""
    request = struct.pack("=8Q", 0, 0, 0, 0, 17, 0, 0, 0)
    calls: tuple[tuple[str, tuple[Argument, ...]], ...] = (
        ("clone", (17, 0, 0, 0, 0)), ("clone3", (request, 64)), ("fork", ()), ("vfork", ()),
    )  # fmt: skip
    for call, arguments in calls:
        verdict = inside.passes(call, *arguments)
        if verdict.passes:
            return opened(call)
    return closed(verdict.words)


PROBES = (
    *(_limit(name) for name in LIMITS),
    _cgroup("memory", "memory_bytes"),
    _cgroup("pids", "pids"),
    _cgroup("cpu", "cpu_quota"),
    Probe("resource.fork", GROUP, "Make processes", "T1106", fork),
)
