"""Kernel interfaces: by the capability, by a filter's every way to refuse, by settings, by inject.

Each interface is used by the process itself, too, as a program would.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
from functools import partial

import pytest

from ringfence.collect.seccomp.tables import native_calls
from ringfence.probe import passing
from tests.seccomp import ALLOW, ERRNO, install
from tests.system import acts
from tests.system.conditions import (
    KILL_PROCESS,
    SOMEBODY,
    TRAP,
    Step,
    answered,
    call,
    landlock,
    limit,
    refused,
    refused_in_64_bits,
    refused_with,
    run,
    spaces,
    terminal,
    user,
    user_space,
    written,
)
from tests.system.probing import (
    BY_ID,
    CLOSED,
    INJECT,
    JOIN,
    OPEN,
    UNSUPPORTED,
    Act,
    Case,
    attempt,
    check,
    standing,
)

pytestmark = pytest.mark.system

EPERM = "seccomp (errno 1, operation not permitted)"
TIOCSTI, RLIMIT_MSGQUEUE = 0x5412, 12


def _ring() -> None:
    room = ctypes.create_string_buffer(120)
    os.close(call("io_uring_setup", 4, ctypes.addressof(room)))


def _faults(flags: int) -> None:
    os.close(call("userfaultfd", flags))


def _watch() -> None:
    os.close(call("fanotify_init", 0, 0))


def _key() -> None:
    call("add_key", b"user", b"test", b"x", 1, -1)


def _search() -> None:
    try:
        call("request_key", b"user", b"test-none", None, 0)
    except OSError as error:
        if error.errno != 126:  # ENOKEY: it was looked for
            raise


def _keyring() -> None:
    call("keyctl", 0, -1, 1, 0, 0)


def _queue() -> None:
    name = f"test-{os.getpid()}".encode()
    os.close(call("mq_open", name, os.O_CREAT | os.O_RDWR, 0o600, None))
    call("mq_unlink", name)


def _segment() -> None:
    call("shmctl", call("shmget", 0, 4096, 0o1600), 0, 0)


def _semaphore() -> None:
    call("semctl", call("semget", 0, 1, 0o1600), 0, 0, 0)


def _secret() -> None:
    os.close(call("memfd_secret", 0))


def _unrandomised() -> None:
    call("personality", 0x0040000)


def _executable() -> None:
    os.fchmod(os.memfd_create("test"), 0o755)


def _counter() -> None:
    request = struct.pack("=IIQQQQQ", 1, 64, 1, 0, 0, 0, 1 << 5).ljust(64, b"\0")
    os.close(call("perf_event_open", request, 0, -1, -1, 8))


# --- by capabilities -----------------------------------------------------------------------------


def _ruled() -> None:
    """The rules of the network, by nft(8)."""
    acts.executed("/usr/sbin/nft", "list", "ruleset")


def _policies() -> None:
    acts.executed("/usr/sbin/ip", "xfrm", "state", "count")


CAPABILITIES: tuple[tuple[str, str, Act | None], ...] = (
    ("kernel.bpf", "CAP_BPF", acts.make_map),
    ("kernel.userfaultfd", "CAP_SYS_PTRACE", partial(_faults, 0)),
    ("kernel.fanotify", "CAP_SYS_ADMIN", partial(call, "fanotify_init", 4, 0)),
    ("kernel.nf-tables", "CAP_NET_ADMIN", _ruled),
    ("kernel.x-tables", "CAP_NET_ADMIN", None),
    ("kernel.traffic-control", "CAP_NET_ADMIN", acts.set_interface),
    ("kernel.xfrm", "CAP_NET_ADMIN", _policies),
)


@pytest.mark.parametrize(("probe", "name", "act"), CAPABILITIES)
def test_with_the_capability_and_without(probe: str, name: str, act: Act | None) -> None:
    check(Case(probe, (user(SOMEBODY, name),), (user(SOMEBODY),), f"capability {name}", act))


@pytest.mark.parametrize(
    ("probe", "name", "act"), [row for row in CAPABILITIES if row[1] == "CAP_NET_ADMIN"]
)
def test_over_a_network_of_its_own_alone(probe: str, name: str, act: Act | None) -> None:
    """In a user namespace with all capabilities, over its own network and over the host's."""
    own = (user_space("0 0 65536"),)
    check(Case(probe, (*own, spaces("net")), own, "user namespace", act))


def test_rearranging_ones_memory() -> None:
    """It takes CAP_SYS_RESOURCE, which no process of this machine has."""
    with standing(user(SOMEBODY)) as there:
        shown = attempt(there.pid, "kernel.prctl-mm")["kernel.prctl-mm"]
    assert (shown.seen, shown.by) == (CLOSED, "capability CAP_SYS_RESOURCE")


# --- by filters ----------------------------------------------------------------------------------

FILTERS: tuple[tuple[str, str, Act | None], ...] = (
    ("kernel.core", "getpid", partial(call, "getpid")),
    ("kernel.io-uring", "io_uring_setup", _ring),
    ("kernel.bpf", "bpf", acts.make_map),
    ("kernel.perf-events", "perf_event_open", _counter),
    ("kernel.add-key", "add_key", _key),
    ("kernel.request-key", "request_key", _search),
    ("kernel.userfaultfd", "userfaultfd", partial(_faults, 0)),
    ("kernel.userfaultfd-user", "userfaultfd", partial(_faults, 1)),
    ("kernel.modify-ldt", "modify_ldt", None),
    ("kernel.fanotify", "fanotify_init", _watch),
    ("kernel.nf-tables", "sendto", None),
    ("kernel.x-tables", "getsockopt", None),
    ("kernel.posix-message-queues", "mq_open", _queue),
    ("kernel.shared-memory", "shmget", _segment),
    ("kernel.semaphores", "semget", _semaphore),
    ("kernel.secret-memory", "memfd_secret", _secret),
    ("kernel.file-handle", "name_to_handle_at", None),
    ("kernel.personality", "personality", _unrandomised),
    ("kernel.change-mode", "memfd_create", _executable),
)


@pytest.mark.parametrize(("probe", "name", "act"), FILTERS)
def test_a_filter_that_refuses(probe: str, name: str, act: Act | None) -> None:
    check(Case(probe, (), (refused(name),), EPERM, act))


@pytest.mark.parametrize(
    ("steps", "by"),
    [((refused("io_uring_setup", errno=38),), "seccomp (errno 38, function not implemented)"),
     ((refused("io_uring_setup", errno=13),), "seccomp (errno 13, permission denied)"),
     ((refused("io_uring_setup", errno=95),), "seccomp (errno 95, operation not supported)"),
     ((answered("io_uring_setup", KILL_PROCESS),), "seccomp (kill)"),
     ((answered("io_uring_setup", TRAP),), "seccomp (trap)")],
    ids=("enosys", "eacces", "eopnotsupp", "kill", "trap"),
)  # fmt: skip
@pytest.mark.parametrize("stance", ["join", INJECT])
def test_every_way_to_refuse(steps: tuple[Step, ...], by: str, stance: str) -> None:
    """None of them is taken for a kernel that lacks the call."""
    beside = (answered("io_uring_enter", KILL_PROCESS),)
    check(Case("kernel.io-uring", beside, steps, by, None, stance))


def test_what_a_filter_leaves_of_several_calls() -> None:
    """Closed only where all of several calls are."""
    for probe, *calls in (("kernel.system-v-ipc", "shmget", "semget", "msgget"),
                          ("kernel.keyrings", "keyctl", "add_key", "request_key")):  # fmt: skip
        for left in calls:
            opened = (refused(*(name for name in calls if name != left)),)
            check(Case(probe, opened, (refused(*calls),), EPERM))


def test_chmod_by_its_other_names() -> None:
    """fchmod alone is not all of it."""
    every = ("fchmod", "fchmodat", "chmod", "fchmodat2")
    for left in every:
        opened = (refused(*(name for name in every if name != left)),)
        check(Case("kernel.change-mode", opened, (refused(*every),), EPERM))


def test_a_filter_that_looks_at_the_argument() -> None:
    check(Case("kernel.personality", (refused_with("personality", 0, 8),),
               (refused_with("personality", 0, 0x0440000),), EPERM))  # fmt: skip


WRITE_FILE = 1 << 1


@pytest.mark.parametrize("number", [1, 3, 16])
def test_landlock_is_told_of_who_is_in_a_domain(number: int) -> None:
    """Refusing the questions about it closes none of its holes."""
    questions = refused("landlock_create_ruleset", "landlock_restrict_self")
    domains = [partial(landlock, WRITE_FILE)] * number
    with standing(*domains, questions) as there:
        shown = attempt(there.pid, "kernel.landlock", stance=INJECT)["kernel.landlock"]
        joined = attempt(there.pid, "kernel.landlock")["kernel.landlock"]
    version = call("landlock_create_ruleset", None, 0, 1)
    assert shown.seen == OPEN
    assert shown.detail.startswith(f"{number} domain") and f" of version {version}," in shown.detail
    assert joined.seen == UNSUPPORTED and "--inject" in joined.detail


def test_landlock_is_not_told_of_who_is_in_no_domain() -> None:
    with standing() as there:
        shown = attempt(there.pid, "kernel.landlock", stance=INJECT)["kernel.landlock"]
    assert (shown.seen, shown.detail) == (UNSUPPORTED, "it is in no Landlock domain")


CALLS = tuple(name for name in BY_ID if name.startswith("call.") and "[" not in name)


@pytest.mark.parametrize("stance", [JOIN, INJECT])
@pytest.mark.parametrize("number", [1, 38])
def test_every_call_of_the_table(stance: str, number: int) -> None:
    """A filter on every third call, and none on the others, whatever the kernel would answer."""
    keep = {"clone", "exit_group", "pause", "restart_syscall", "write", "prctl", "seccomp"}
    names = [name.removeprefix("call.") for name in CALLS]
    chosen = sorted(set(names[::3]) - keep)
    with standing(refused(*chosen, errno=number)) as there:
        shown = attempt(there.pid, *CALLS, stance=stance)
    closed = sorted(name.removeprefix("call.") for name, one in shown.items() if one.seen != OPEN)
    assert closed == chosen
    assert {one.by.partition(",")[0] for one in shown.values() if one.by} == {
        f"seccomp (errno {number}"
    }
    with standing() as there:
        shown = attempt(there.pid, *CALLS, stance=stance)
    assert {one.seen for one in shown.values()} == {OPEN}


@pytest.mark.parametrize(
    ("probe", "step"),
    [("call.socket[AF_ALG]", refused_with("socket", 0, 38)),
     ("call.socket[AF_NETLINK,*,NETLINK_NETFILTER]", refused_with("socket", 2, 12)),
     ("call.clone[CLONE_NEWUSER]", refused_with("clone", 0, 0x10000000, mask=0x10000000)),
     ("call.ioctl[*,TIOCSTI]", refused_with("ioctl", 1, TIOCSTI)),
     ("call.setsockopt[*,6,31]", refused_with("setsockopt", 1, 6))],
)  # fmt: skip
def test_calls_with_arguments(probe: str, step: Step) -> None:
    """What a filter says to these arguments, the call never made."""
    check(Case(probe, (), (step,), EPERM))


@pytest.mark.parametrize(
    ("probe", "name", "index", "value"),
    [("call.socket[AF_VSOCK]", "socket", 0, 40), ("call.ioctl[*,TIOCSTI]", "ioctl", 1, TIOCSTI),
     ("kernel.personality", "personality", 0, 0x0440000), ("socket.unix", "socket", 0, 1)],
)  # fmt: skip
def test_a_filter_that_compares_more_than_the_kernel_does(
    probe: str, name: str, index: int, value: int
) -> None:
    """With something in the upper half of the argument the call passes, and means the same."""
    check(Case(probe, (refused_in_64_bits(name, index, value),),
               (refused_with(name, index, value),), EPERM))  # fmt: skip


# --- by settings ---------------------------------------------------------------------------------

IPC = (spaces("ipc"),)


@pytest.mark.parametrize(
    ("probe", "path", "text", "act"),
    [("kernel.shared-memory", "/proc/sys/kernel/shmmni", "0", _segment),
     ("kernel.semaphores", "/proc/sys/kernel/sem", "32000 1024000000 500 0", _semaphore),
     ("kernel.posix-message-queues", "/proc/sys/fs/mqueue/queues_max", "0", _queue)],
)  # fmt: skip
def test_limits_of_an_ipc_namespace(probe: str, path: str, text: str, act: Act) -> None:
    opened = (*IPC, user(SOMEBODY))
    check(Case(probe, opened, (*IPC, written(path, text), user(SOMEBODY)), "limit", act))


def test_the_limit_of_message_queues() -> None:
    check(Case("kernel.posix-message-queues", (user(SOMEBODY),),
               (limit(RLIMIT_MSGQUEUE, 0), user(SOMEBODY)), "limit (RLIMIT_MSGQUEUE)",
               _queue))  # fmt: skip


# --- terminals -----------------------------------------------------------------------------------


def _typed() -> None:
    """A space, typed into one's own new pseudo-terminal."""
    handle = os.open("/dev/tty", os.O_RDWR)
    fcntl.ioctl(handle, TIOCSTI, b" ")


def _restricted() -> bool:
    with open("/proc/sys/dev/tty/legacy_tiocsti") as file:
        return file.read().strip() == "0"


@pytest.mark.skipif(_restricted(), reason="the setting of this machine closes it to all users")
@pytest.mark.parametrize(
    ("closed", "by"),
    [((user(SOMEBODY),), "no controlling terminal"),
     ((terminal, user(SOMEBODY), refused_with("ioctl", 1, TIOCSTI)), EPERM)],
    ids=("none", "filter"),
)  # fmt: skip
def test_typing_into_the_terminal(closed: tuple[Step, ...], by: str) -> None:
    opened = (terminal, user(SOMEBODY))
    act = _typed if "seccomp" in by else None
    check(Case("kernel.terminal-injection", opened, closed, by, act, INJECT))


@pytest.mark.skipif(_restricted(), reason="the setting of this machine closes it to all users")
def test_typing_by_a_command_that_the_filter_does_not_know() -> None:
    def typed() -> None:
        handle = os.open("/dev/tty", os.O_RDWR)
        with pytest.raises(OSError):
            call("ioctl", handle, TIOCSTI, b" ")
        call("ioctl", handle, TIOCSTI | 1 << 32, b" ")

    steps = (terminal, user(SOMEBODY), refused_in_64_bits("ioctl", 1, TIOCSTI))
    with standing(*steps, act=typed) as there:
        shown = attempt(there.pid, "kernel.terminal-injection", stance=INJECT)
    assert there.errno == 0
    assert shown["kernel.terminal-injection"].seen == OPEN


def test_the_setting_against_typing() -> None:
    """dev.tty.legacy_tiocsti is the host's: what it is now decides for one without privilege."""
    with standing(terminal, user(SOMEBODY), act=_typed) as there:
        shown = attempt(there.pid, "kernel.terminal-injection", stance=INJECT)
    assert (shown["kernel.terminal-injection"].seen == OPEN) == (there.errno == 0)


def test_a_terminal_is_not_seen_by_join() -> None:
    with standing(terminal) as there:
        shown = attempt(there.pid, "kernel.terminal-injection")["kernel.terminal-injection"]
    assert shown.seen == UNSUPPORTED


def test_a_pseudo_terminal_is_no_console() -> None:
    with standing(terminal) as there:
        shown = attempt(there.pid, "kernel.console-injection", stance=INJECT)
    assert shown["kernel.console-injection"].seen == UNSUPPORTED


# --- harmless ------------------------------------------------------------------------------------


def test_policies_of_ipsec_stay() -> None:
    """The neighbouring numbers of what is asked flush them all."""
    policy = run("ip", "xfrm", "policy", "add", "src", "192.0.2.7", "dst", "192.0.2.8", "dir",
                 "out", "action", "block")  # fmt: skip
    with standing(spaces("net"), policy) as there:
        before = _ipsec(there.pid)
        shown = attempt(there.pid, "kernel.xfrm", "namespace.netfilter-in-user", "kernel.nf-tables",
                        "kernel.traffic-control", "kernel.x-tables")  # fmt: skip
        after = _ipsec(there.pid)
    assert shown["kernel.xfrm"].seen == OPEN
    assert "192.0.2.7" in before and before == after


def _ipsec(pid: int) -> str:
    command = ["nsenter", "-t", str(pid), "-n", "ip", "xfrm", "policy"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_interfaces_stay_as_they_are() -> None:
    """What asks about loopback's size of packets does not change it."""
    probes = ("capability.net-admin", "kernel.traffic-control", "network.mark")
    with standing(spaces("net"), run("ip", "link", "set", "lo", "mtu", "9000", "up")) as there:
        attempt(there.pid, *probes)
        command = ["nsenter", "-t", str(there.pid), "-n", "ip", "link", "show", "lo"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "mtu 9000" in said and "UP" in said


# --- filters that look at arguments ---------------------------------------------------------------


def _only(name: str, index: int, value: int) -> Step:
    """A filter that lets a call through with this argument alone."""
    return lambda: install([
        (0x20, 0, 0, 0), (0x15, 1, 0, native_calls()[name]), (0x06, 0, 0, ALLOW),
        (0x20, 0, 0, 16 + 8 * index), (0x15, 0, 1, value), (0x06, 0, 0, ALLOW),
        (0x06, 0, 0, ERRNO | 1),
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [("fcntl", 1, 3), ("kill", 1, 9), ("madvise", 2, 4), ("mprotect", 2, 5),
     ("socket", 1, 0o2000001)],
)  # fmt: skip
def test_a_call_that_passes_with_one_argument(name: str, index: int, value: int) -> None:
    probe = f"call.{name}"
    check(Case(probe, (_only(name, index, value),), (refused(name),), EPERM))
    with standing(_only(name, index, value)) as there:
        shown = attempt(there.pid, probe)[probe]
    assert f"{value:#x}" in shown.detail


def test_a_call_whose_argument_is_not_found_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing, "MOST_TRIES", 0)
    with standing(_only("fcntl", 1, 4)) as there:
        shown = attempt(there.pid, "call.fcntl")["call.fcntl"]
    assert (shown.seen, shown.by) == (UNSUPPORTED, "")
