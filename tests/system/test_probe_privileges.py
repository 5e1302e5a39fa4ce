"""Identity and capabilities: a process with exactly one capability, and the same without it."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest

from ringfence.run import kernel
from tests.system import acts
from tests.system.conditions import (
    ANOTHER,
    NEWUTS,
    NOSUID,
    PR_SET_DUMPABLE,
    SOMEBODY,
    Step,
    bound,
    call,
    entered,
    forked,
    limit,
    no_new_privileges,
    nothing_writable,
    proc,
    refused,
    run,
    spaces,
    terminal,
    tmpfs,
    user,
    user_space,
    without,
)
from tests.system.probing import (
    CLOSED,
    INJECT,
    OPEN,
    UNSUPPORTED,
    Act,
    Case,
    attempt,
    check,
    standing,
)

pytestmark = pytest.mark.system

CAPABILITIES: tuple[tuple[str, str, Act | None], ...] = (
    ("CAP_CHOWN", "capability.chown", acts.give_away),
    ("CAP_DAC_OVERRIDE", "capability.dac-override",
     partial(acts.opened, "/etc/passwd", os.O_WRONLY)),
    ("CAP_DAC_READ_SEARCH", "capability.dac-read-search",
     partial(acts.opened, "/etc/shadow", os.O_RDONLY)),
    ("CAP_FOWNER", "capability.fowner",
     partial(acts.opened, "/etc/passwd", os.O_RDONLY | os.O_NOATIME)),
    ("CAP_SETUID", "identity.other-user", partial(acts.become, ANOTHER)),
    ("CAP_SETUID", "identity.root-user", partial(acts.become, 0)),
    ("CAP_SETGID", "identity.root-group", partial(acts.join_group, 0)),
    ("CAP_SETPCAP", "capability.setpcap", acts.drop_bounding),
    ("CAP_LINUX_IMMUTABLE", "capability.linux-immutable", acts.make_immutable),
    ("CAP_NET_ADMIN", "capability.net-admin", acts.set_interface),
    ("CAP_NET_RAW", "capability.net-raw", acts.raw_socket),
    ("CAP_NET_BIND_SERVICE", "capability.net-bind-service", acts.low_port),
    ("CAP_IPC_LOCK", "capability.ipc-lock", acts.lock_memory),
    ("CAP_IPC_OWNER", "capability.ipc-owner", acts.foreign_queue),
    ("CAP_SYS_CHROOT", "capability.sys-chroot", partial(os.chroot, "/")),
    ("CAP_SYS_PACCT", "capability.sys-pacct", acts.stop_accounting),
    ("CAP_SYS_ADMIN", "capability.sys-admin", acts.set_host_name),
    ("CAP_SYS_ADMIN", "capability.sys-admin-here", partial(kernel.unshare, NEWUTS)),
    # reboot(2) with its magic numbers has no harmless command: no act of its own.
    ("CAP_SYS_BOOT", "capability.reboot", None),
    ("CAP_SYS_NICE", "capability.sys-nice", partial(os.nice, -1)),
    ("CAP_SYS_TIME", "capability.sys-time", acts.set_time_zone),
    ("CAP_SYS_TTY_CONFIG", "capability.sys-tty-config", acts.hang_up),
    ("CAP_MKNOD", "capability.mknod", acts.make_node),
    ("CAP_LEASE", "capability.lease", acts.take_lease),
    ("CAP_AUDIT_CONTROL", "capability.audit-control", acts.ask_audit),
    ("CAP_AUDIT_READ", "capability.audit-read", acts.read_audit),
    ("CAP_SETFCAP", "capability.setfcap", acts.give_capability),
    ("CAP_SYSLOG", "capability.syslog", acts.read_log),
    ("CAP_PERFMON", "capability.perfmon", acts.count_kernel),
    ("CAP_BPF", "capability.bpf", acts.make_map),
    ("CAP_CHECKPOINT_RESTORE", "capability.checkpoint-restore", acts.follow_mapping),
)  # fmt: skip
"""Capability, probe, and what it permits. CAP_KILL and CAP_SYS_PTRACE need a neighbour and come
below."""
NOT_HERE = {
    "capability.sys-module": "the kernel has no modules (CONFIG_MODULES)",
    "capability.sys-rawio": "the kernel has no ioperm(2) (CONFIG_X86_IOPL_IOPERM)",
    "capability.sys-boot": "the kernel has no kexec_load(2) (CONFIG_KEXEC)",
    "capability.wake-alarm": "the machine has no clock that could wake it",
}
"""What other kernels have: there the rows would follow."""
NOBODYS = ("CAP_FOWNER", "CAP_LEASE")
"""User 0 owns whatever these could be tried on."""
EXCEPT = ("identity.root-user", "identity.root-group")
"""What user 0 is already."""


@pytest.mark.parametrize("row", CAPABILITIES, ids=lambda row: row[1])
def test_the_only_capability_of_a_user(row: tuple[str, str, Act | None]) -> None:
    name, probe, act = row
    if probe in NOT_HERE:
        pytest.skip(NOT_HERE[probe])
    check(Case(probe, (user(SOMEBODY, name),), (user(SOMEBODY),), f"capability {name}", act))


@pytest.mark.parametrize(
    "row",
    [row for row in CAPABILITIES if row[0] not in NOBODYS and row[1] not in EXCEPT],
    ids=lambda row: row[1],
)
def test_the_one_capability_that_root_lacks(row: tuple[str, str, Act | None]) -> None:
    name, probe, act = row
    # Either of the two lets one read a file; CAP_SYS_ADMIN stands in for these two (bpf(2),
    # perf_event_open(2)) and for CAP_CHECKPOINT_RESTORE and CAP_SYSLOG.
    also = {"CAP_PERFMON": ("CAP_SYS_ADMIN",), "CAP_BPF": ("CAP_SYS_ADMIN",),
            "CAP_CHECKPOINT_RESTORE": ("CAP_SYS_ADMIN",)}.get(name, ())  # fmt: skip
    own_file = name in ("CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH")
    check(Case(probe, (), (without(name, *also),), f"capability {name}", None if own_file else act))


@pytest.mark.parametrize("probe", NOT_HERE)
def test_what_the_kernel_lacks_is_neither_open_nor_closed(probe: str) -> None:
    with standing() as there:
        shown = attempt(there.pid, probe)[probe]
    assert (shown.seen, shown.by) == (UNSUPPORTED, "kernel without the feature")


def test_raising_limits() -> None:
    """No process of this machine may: so only the one half can be set up."""
    core = partial(resource.setrlimit, resource.RLIMIT_CORE)
    with standing(limit(resource.RLIMIT_CORE, 0, 4096), user(SOMEBODY),
                  act=lambda: core((0, 8192))) as there:  # fmt: skip
        shown = attempt(there.pid, "capability.sys-resource")["capability.sys-resource"]
    assert there.errno != 0
    assert (shown.seen, shown.by) == (CLOSED, "capability CAP_SYS_RESOURCE")


# --- capabilities over others --------------------------------------------------------------------


@pytest.fixture(scope="module")
def neighbour() -> Iterator[int]:
    """Another user's process, the first of a PID namespace of its own."""
    with standing(spaces("pid", "mnt"), forked, proc(), user(ANOTHER), orphan=True) as there:
        yield there.pid


@pytest.mark.parametrize(
    ("name", "probe", "act"),
    [("CAP_KILL", "capability.kill", partial(os.kill, 1, 0)),
     ("CAP_SYS_PTRACE", "capability.sys-ptrace", partial(os.readlink, "/proc/1/cwd"))],
)  # fmt: skip
def test_capabilities_over_another_user(neighbour: int, name: str, probe: str, act: Act) -> None:
    beside = (entered(neighbour, "pid", "mnt"), forked)
    alone = (*beside, user(SOMEBODY))
    check(
        Case(probe, (*beside, user(SOMEBODY, name)), alone, f"capability {name}", act),
        Case(probe, beside, (*beside, without(name)), f"capability {name}", act),
    )


# --- capabilities in user namespaces -------------------------------------------------------------

OWN = (user_space("0 0 65536"),)
"""A user namespace in which all users are known."""
LOW = "/proc/sys/net/ipv4/ip_unprivileged_port_start"


@pytest.mark.parametrize(
    ("probe", "act"),
    [("capability.net-admin", None), ("capability.net-raw", acts.raw_socket),
     ("capability.net-bind-service", acts.low_port)],
)  # fmt: skip
def test_of_the_network_that_the_namespace_owns(probe: str, act: Act | None) -> None:
    """The same capabilities, over a network of one's own and over the host's."""
    up = run("ip", "link", "set", "lo", "up")
    check(Case(probe, (*OWN, spaces("net"), up), OWN, "user namespace", act))


@pytest.mark.parametrize(
    ("probe", "act"),
    [("capability.sys-admin", acts.set_host_name),
     ("capability.sys-pacct", acts.stop_accounting),
     ("capability.syslog", acts.read_log), ("capability.sys-time", acts.set_time_zone),
     ("capability.sys-nice", partial(os.nice, -1)), ("capability.ipc-lock", acts.lock_memory),
     ("capability.audit-control", acts.ask_audit), ("capability.audit-read", acts.read_audit),
     ("capability.reboot", None), ("capability.linux-immutable", acts.make_immutable),
     ("capability.mknod", acts.make_node), ("capability.perfmon", acts.count_kernel),
     ("capability.bpf", acts.make_map), ("capability.dac-read-search", None)],
)  # fmt: skip
def test_what_a_user_namespace_does_not_give(probe: str, act: Act | None) -> None:
    """All capabilities are held there, and these count for nothing."""
    check(Case(probe, (), OWN, "user namespace", act))


def test_a_low_port_without_its_capability() -> None:
    low = run("sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0")
    network = (spaces("net"), run("ip", "link", "set", "lo", "up"))
    check(
        Case(
            "capability.net-bind-service",
            (*network, low, user(SOMEBODY)),
            (*network, user(SOMEBODY)),
            "capability CAP_NET_BIND_SERVICE",
            acts.low_port,
        )
    )


def test_a_low_port_where_loopback_is_down() -> None:
    """There is no address of loopback then, which must not count as a refusal."""
    name = "CAP_NET_BIND_SERVICE"
    check(Case("capability.net-bind-service", (spaces("net"), user(SOMEBODY, name)),
               (spaces("net"), user(SOMEBODY)), f"capability {name}",
               lambda: socket.socket().bind(("0.0.0.0", 81))))  # noqa: S104 # fmt: skip


def test_priority_of_what_is_ahead_already() -> None:
    """Staying at a high priority is no proof that it could be raised."""
    ahead = partial(os.nice, -5)
    check(Case("capability.sys-nice", (ahead, user(SOMEBODY, "CAP_SYS_NICE")),
               (ahead, user(SOMEBODY)), "capability CAP_SYS_NICE",
               partial(os.nice, -1)))  # fmt: skip


def test_locked_memory_where_its_limit_stays() -> None:
    """A page fits in the usual limit: that shows nothing of the capability."""
    for name in ("prlimit64", "setrlimit"):
        with standing(refused(name), user(SOMEBODY)) as there:
            shown = attempt(there.pid, "capability.ipc-lock")["capability.ipc-lock"]
        assert (shown.seen, shown.by) == (CLOSED, "capability CAP_IPC_LOCK")
    with standing(refused("prlimit64", "setrlimit"), user(SOMEBODY)) as there:
        shown = attempt(there.pid, "capability.ipc-lock")["capability.ipc-lock"]
    assert shown.seen == UNSUPPORTED


def test_nodes_where_no_folder_can_be_written_to() -> None:
    places = (spaces("mnt"), nothing_writable)
    check(Case("capability.mknod", (*places, tmpfs("/tmp")), places, "read-only mount",
               acts.make_node))  # fmt: skip


def test_a_terminal_is_not_hung_up() -> None:
    """The child leaves the workload's session first, also where a filter would not let it: its
    terminal stays."""
    probe = "capability.sys-tty-config"
    with standing(terminal, refused("setsid")) as there:
        shown = attempt(there.pid, probe, stance=INJECT)[probe]
        with open(f"/proc/{there.pid}/stat") as file:
            number = int(file.read().rpartition(")")[2].split()[4])
    assert shown.seen == OPEN
    assert number != 0


# --- identity ------------------------------------------------------------------------------------


def test_a_user_number_that_was_kept() -> None:
    """A process that still has user 0 as its saved user comes back by itself."""
    check(Case("identity.root-user", (partial(os.setresuid, SOMEBODY, SOMEBODY, 0),
                                      without("CAP_SETUID")),
               (user(SOMEBODY),), "capability CAP_SETUID", partial(acts.become, 0)))  # fmt: skip


@pytest.mark.parametrize(
    ("probe", "capability", "calls"),
    [("identity.root-user", "CAP_SETUID", ("setresuid", "setuid", "setreuid")),
     ("identity.other-user", "CAP_SETUID", ("setresuid", "setuid", "setreuid")),
     ("identity.root-group", "CAP_SETGID", ("setresgid", "setgid", "setregid"))],
)  # fmt: skip
def test_another_identity_by_a_call_that_filters_leave(
    probe: str, capability: str, calls: tuple[str, ...]
) -> None:
    held = user(SOMEBODY, capability)
    eperm = "seccomp (errno 1, operation not permitted)"
    for left in calls:
        others = refused(*(name for name in calls if name != left))
        check(Case(probe, (held, others), (held, refused(*calls)), eperm))
    # Where the one that is left takes the capability, that is what stops it.
    check(Case(probe, (held,), (user(SOMEBODY), refused(calls[0])), f"capability {capability}"))


def test_a_user_namespace_that_knows_one_user() -> None:
    """An unknown number is refused before the capability is asked for, which proves nothing."""
    for probe in ("identity.other-user", "capability.chown"):
        with standing(user_space(ONE), user(SOMEBODY)) as there:
            shown = attempt(there.pid, probe)[probe]
        assert shown.seen != OPEN, shown


def test_programs_may_gain_privilege() -> None:
    check(Case("identity.new-privileges", (user(SOMEBODY),), (user(SOMEBODY), no_new_privileges),
               "no_new_privs"))  # fmt: skip


PROGRAM = "/usr/bin/id"
ONE = f"{SOMEBODY} {SOMEBODY} 1"


def _program(mode: str, *, flags: int = 0) -> tuple[Step, ...]:
    """A view in which id(1) is the only program, with a mode of its own."""
    copied = run("sh", "-c", f"cp {PROGRAM} /mnt/id && chmod {mode} /mnt/id")
    return (spaces("mnt"), tmpfs("/mnt", data="mode=755"), copied, tmpfs("/usr/sbin"),
            tmpfs("/usr/lib/openssh"), bound("/mnt", "/usr/bin", flags))  # fmt: skip


def _as_root() -> None:
    done = subprocess.run([PROGRAM, "-u"], capture_output=True, check=True)
    if done.stdout != b"0\n":
        raise PermissionError(1, "not as user 0")


@pytest.mark.parametrize(
    ("closed", "by"),
    [((*_program("4755"), user(SOMEBODY), no_new_privileges), "no_new_privs"),
     ((*_program("4755", flags=NOSUID), user(SOMEBODY)), "mount (nosuid)"),
     ((*_program("4755"), user_space(ONE), user(SOMEBODY)), "user namespace"),
     ((*_program("755"), user(SOMEBODY)), "no such program")],
)  # fmt: skip
def test_a_set_user_id_program(closed: tuple[Step, ...], by: str) -> None:
    opened = (*_program("4755"), user(SOMEBODY))
    check(Case("identity.setuid-program", opened, closed, by, _as_root))


@contextlib.contextmanager
def _sleeping(*steps: Step) -> Iterator[int]:
    """A program that sleeps and whose files in /proc are its user's."""
    sleep = partial(os.execv, "/usr/bin/sleep", ["sleep", "60"])
    with standing(*steps, becomes=sleep) as there:
        yield there.pid


def _without_root(pid: int, probe: str) -> str:
    """What a probe says that somebody makes who is not root: seen, by and detail in a line."""
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            user(SOMEBODY)()
            call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
            os.write(say, "|".join(attempt(pid, probe)[probe]).encode())
        finally:
            os._exit(0)
    os.close(say)
    os.waitpid(child, 0)
    with open(said) as answer:
        return answer.read()


def test_a_set_user_id_program_tried_without_root() -> None:
    """Whoever traces without CAP_SYS_PTRACE sees none of them at work: that closes nothing, and
    no_new_privs still does."""
    own = user(SOMEBODY)
    with _sleeping(own) as pid:
        seen = _without_root(pid, "identity.setuid-program")
        assert attempt(pid, "identity.setuid-program")["identity.setuid-program"].seen == OPEN
    assert seen.startswith("unsupported||not known: ") and "CAP_SYS_PTRACE" in seen
    with _sleeping(own, no_new_privileges) as pid:
        seen = _without_root(pid, "identity.setuid-program")
    assert seen.startswith("closed|no_new_privs|")
