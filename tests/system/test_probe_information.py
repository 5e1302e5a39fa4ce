"""Information: by modes, masks, capabilities and what is there. Nothing of it is printed."""

from __future__ import annotations

import contextlib
import os
from functools import partial

import pytest

from tests.system import acts
from tests.system.conditions import (
    ANOTHER,
    SOMEBODY,
    Step,
    bound,
    call,
    forked,
    proc,
    refused,
    spaces,
    tmpfs,
    user,
    user_space,
    without,
)
from tests.system.probing import CLOSED, OPEN, Act, Case, attempt, check, standing

pytestmark = pytest.mark.system

EPERM = "seccomp (errno 1, operation not permitted)"
PRIVATE = (spaces("mnt"),)
FILES = (
    ("information.kernel-log-device", "/dev/kmsg"), ("information.key-list", "/proc/keys"),
    ("information.interrupts", "/proc/interrupts"), ("information.timers", "/proc/timer_list"),
    ("information.firmware", "/sys/firmware/acpi/tables/DSDT"),
    ("information.boot-line", "/proc/cmdline"),
    ("information.kernel-settings", "/proc/config.gz"),
    ("information.page-map", "/proc/kpagecount"), ("information.swap-file", "/proc/swaps"),
    ("information.slabs", "/proc/slabinfo"), ("information.vm-allocations", "/proc/vmallocinfo"),
    ("information.kernel-image", "/proc/kcore"),
    ("information.serial-number", "/sys/class/dmi/id/product_uuid"),
)  # fmt: skip
PRESENT = tuple(row for row in FILES if os.path.exists(row[1]))
FOR_ROOT = tuple(row for row in PRESENT if os.stat(row[1]).st_mode & 0o004 == 0)
MORE = ("/dev/kmsg", "/proc/keys")
"""What they show depends on more than the mode."""
FOR_ALL = tuple(row for row in PRESENT if row not in FOR_ROOT and row[1] not in MORE)


def _read(path: str) -> None:
    """The beginning of it; an empty file has nothing to say."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        if not os.read(handle, 8192):
            raise OSError(61, "no data")


@pytest.mark.parametrize(("probe", "path"), PRESENT)
def test_what_engines_mask(probe: str, path: str) -> None:
    """The null device over a file, as runtimes mask them (OCI runtime specification)."""
    check(Case(probe, PRIVATE, (*PRIVATE, bound("/dev/null", path)), "masked",
               partial(_read, path)))  # fmt: skip


@pytest.mark.parametrize(("probe", "path"), FOR_ROOT)
def test_what_only_root_may_read(probe: str, path: str) -> None:
    check(Case(probe, (), (user(SOMEBODY),), "file mode", partial(_read, path)))


@pytest.mark.parametrize(("probe", "path"), FOR_ALL)
def test_what_everybody_may_read(probe: str, path: str) -> None:
    opened = (user(SOMEBODY),)
    closed = (user(SOMEBODY), refused("open", "openat", errno=13))
    check(
        Case(probe, opened, closed, "seccomp (errno 13, permission denied)", partial(_read, path))
    )


def test_a_view_without_proc() -> None:
    hidden = (*PRIVATE, tmpfs("/proc"))
    for probe, path in (("information.unix-sockets", "/proc/net/unix"),
                        ("information.tcp-sockets", "/proc/net/tcp"),
                        ("information.mounts", "/proc/1/mountinfo")):  # fmt: skip
        own = (spaces("pid", "mnt"), forked, proc())
        check(Case(probe, own, (*hidden,), "missing file", partial(_read, path)))


def test_mounts_of_process_1() -> None:
    """Process 1 of a PID namespace of its own is itself; another user's may be hidden."""
    probe = "information.mounts"
    act = partial(_read, "/proc/1/mountinfo")
    own = (spaces("pid", "mnt"), forked, proc(), user(SOMEBODY))
    below = (
        spaces("pid", "mnt"),
        forked,
        proc("hidepid=invisible"),
        _child_of(ANOTHER),
        user(SOMEBODY),
    )
    check(Case(probe, own, below, "missing file", act))


def _child_of(uid: int) -> Step:
    """Go on as the child of another user's process, which waits."""

    def step() -> None:
        pid = os.fork()
        if pid:
            user(uid)()
            os.waitpid(pid, 0)
            os._exit(0)

    return step


def test_keys() -> None:
    """A user sees keys of its own; where it has none, the list is empty, and nothing masks it."""
    key = partial(call, "add_key", b"user", b"test", b"x", 1, -2)
    check(Case("information.key-list", (user(SOMEBODY), key), (user(ANOTHER),), "nothing there",
               partial(_read, "/proc/keys")))  # fmt: skip


# --- the kernel ----------------------------------------------------------------------------------


def _addresses() -> None:
    """Whether some symbol is shown elsewhere than at 0 (proc(5))."""
    with open("/proc/kallsyms", "rb") as file:
        if not any(set(line.split()[0]) - {ord("0")} for line in file.readlines(1 << 16)):
            raise PermissionError(1, "zeros")


def test_addresses_of_the_kernel() -> None:
    probe = "information.kernel-addresses"
    check(Case(probe, (user(SOMEBODY, "CAP_SYSLOG"),), (user(SOMEBODY),), "capability CAP_SYSLOG",
               _addresses),
          Case(probe, (), (without("CAP_SYSLOG"),), "capability CAP_SYSLOG", _addresses),
          Case(probe, (), (user_space("0 0 65536"),), "user namespace", _addresses),
          Case(probe, PRIVATE, (*PRIVATE, bound("/dev/null", "/proc/kallsyms")), "masked",
               _addresses))  # fmt: skip


def _restricted() -> bool:
    with open("/proc/sys/kernel/dmesg_restrict") as file:
        return file.read().strip() != "0"


@pytest.mark.skipif(not _restricted(), reason="dmesg_restrict lets everybody read here")
@pytest.mark.parametrize(
    ("probe", "act"),
    [("information.kernel-log", acts.read_log),
     ("information.kernel-log-device", partial(_read, "/dev/kmsg")),
     ("file.dev-kmsg", partial(_read, "/dev/kmsg"))],
)  # fmt: skip
def test_the_log_by_its_capability(probe: str, act: Act) -> None:
    check(Case(probe, (user(SOMEBODY, "CAP_SYSLOG"),), (user(SOMEBODY),), "capability CAP_SYSLOG",
               act))  # fmt: skip


def test_the_log_under_a_filter() -> None:
    check(Case("information.kernel-log", (), (refused("syslog"),), EPERM, acts.read_log))


def test_the_kernels_version() -> None:
    act = partial(os.uname)
    check(Case("information.kernel-version", (user(SOMEBODY),), (user(SOMEBODY), refused("uname")),
               EPERM, act))  # fmt: skip


# --- of users ------------------------------------------------------------------------------------


def _homes(mode: int) -> tuple[Step, ...]:
    over = (tmpfs(path, data="mode=700") for path in ("/root", "/home"))
    return (*PRIVATE, *over, partial(os.chmod, "/home", mode), user(SOMEBODY))


def test_homes_of_others() -> None:
    check(Case("information.homes", _homes(0o755), _homes(0o700), "file mode",
               partial(os.listdir, "/home")))  # fmt: skip


def _with(*pairs: str) -> Act:
    """Become sleep(1) with this environment."""
    environment = dict(pair.split("=") for pair in pairs)
    return partial(os.execve, "/usr/bin/sleep", ["sleep", "600"], environment)


@pytest.mark.parametrize("name", ["DATABASE_PASSWORD", "API_TOKEN", "AWS_SECRET_ACCESS_KEY"])
def test_secrets_in_the_environment(name: str) -> None:
    probe = "information.environment-secrets"
    for pair, seen in ((f"{name}=swordfish-4711", OPEN), ("LANG=swordfish-4711", CLOSED)):
        with standing(becomes=_with(pair)) as there:
            shown = attempt(there.pid, probe)[probe]
        assert shown.seen == seen, shown
        assert "swordfish" not in f"{shown}"
    assert shown.by == "nothing there"
