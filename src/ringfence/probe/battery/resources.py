"""Limits: whether they hold the workload, or it may raise or pass over them. None is reached."""

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
        """Raises the limit of a child of ours as far as it may be, or takes it away to see whether
        the kernel looks at it; the child makes one other or locks one page at the most."""
        soft, hard = _read(inside, number)
        most = max(soft, _raised(inside, number, hard))
        if most == INFINITE:
            return opened(f"{word} is unlimited" if soft == INFINITE else
                          f"{word} is {soft}, and may be raised without end")  # fmt: skip
        passed_over = PASSED_OVER.get(name)
        if passed_over is not None and passed_over(inside, number):
            return opened(f"{word} is {most}, and it passes over that")
        return closed(f"limit ({word})", f"{most}")

    return Probe(f"resource.{name}", GROUP, f"No limit on {name.replace('-', ' ')}", TECHNIQUE,
                 attempt)  # fmt: skip


def _read(inside: Inside, number: int) -> tuple[int, int]:
    """Soft and hard; filters are not asked, since they hold whoever reads them or not."""
    now = bytearray(16)
    inside.child.manage("prlimit64", 0, number, 0, now)
    soft, hard = struct.unpack("=QQ", bytes(now))
    return soft, hard


def _raised(inside: Inside, number: int, hard: int) -> int:
    """The greatest limit that it may give itself: the hard one, or any with CAP_SYS_RESOURCE; 0
    where filters refuse both calls."""
    for value in (INFINITE, hard):
        pair = struct.pack("=QQ", value, value)
        forms: tuple[tuple[str, tuple[Argument, ...]], ...] = (
            ("prlimit64", (0, number, pair, 0)), ("setrlimit", (number, pair)))  # fmt: skip
        for call, arguments in forms:
            if not inside.passes(call, *arguments).passes:
                continue
            if inside.child.manage(call, *arguments) >= 0:
                return value
    return 0


def _without(inside: Inside, number: int) -> None:
    """Take a limit away from our child, so that whatever it does is beyond it."""
    inside.child.manage("prlimit64", 0, number, struct.pack("=QQ", 0, 0), 0)


def _forks_beyond(inside: Inside, number: int) -> bool:
    """Whether the kernel's clone(2) lets it: user 0, CAP_SYS_RESOURCE and CAP_SYS_ADMIN pass over
    RLIMIT_NPROC (kernel/fork.c, copy_process)."""
    _without(inside, number)
    return inside.child.manage("clone", 0, 0, 0, 0, 0) >= 0


def _locks_beyond(inside: Inside, number: int) -> bool:
    """The same for mlock(2) and CAP_IPC_LOCK (mm/mlock.c)."""
    _without(inside, number)
    return inside.child.manage("mlock", inside.child.scratch, 4096) >= 0


PASSED_OVER = {"processes": _forks_beyond, "locked-memory": _locks_beyond}
"""Limits that the kernel does not hold against everybody."""


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
