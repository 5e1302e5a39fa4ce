"""Other processes: one neighbour in view, of the same user or of another."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from ringfence.probe.view import MOST_OTHERS
from tests.system import acts
from tests.system.conditions import (
    ANOTHER,
    SOMEBODY,
    Step,
    call,
    entered,
    forked,
    landlock,
    proc,
    refused,
    refused_with,
    spaces,
    tmpfs,
    user,
)
from tests.system.probing import (
    CLOSED,
    INJECT,
    OPEN,
    UNSUPPORTED,
    Act,
    Case,
    Shown,
    attempt,
    check,
    standing,
)

pytestmark = pytest.mark.system

PTRACE = "capability CAP_SYS_PTRACE"
FIRST = 1
SCOPE_SIGNAL = 2
LINES: tuple[tuple[str, str, str, Act | None], ...] = (
    ("process.attach", PTRACE, "ptrace", partial(acts.attach, FIRST)),
    ("process.read-memory", PTRACE, "process_vm_readv", None),
    ("process.write-memory", PTRACE, "process_vm_writev", None),
    ("process.open-memory", "file mode", "", partial(acts.opened, "/proc/1/mem", os.O_RDWR)),
    ("process.open-environment", "file mode", "",
     partial(acts.opened, "/proc/1/environ", os.O_RDONLY)),
    ("process.open-descriptors", "file mode", "", partial(os.listdir, "/proc/1/fd")),
    ("process.open-maps", PTRACE, "", partial(acts.opened, "/proc/1/maps", os.O_RDONLY)),
    ("process.take-descriptor", PTRACE, "pidfd_getfd", None),
    ("process.signal", "capability CAP_KILL", "kill", partial(os.kill, FIRST, 0)),
    ("process.limits", "capability CAP_SYS_RESOURCE", "prlimit64", None),
)  # fmt: skip
"""Probe, what stops it for another user's process, the call it takes, and the same by itself."""


@pytest.fixture(scope="module")
def same() -> Iterator[int]:
    """A process of the same user, the first of a PID namespace of its own."""
    with standing(spaces("pid", "mnt"), forked, proc(), user(SOMEBODY), orphan=True) as there:
        yield there.pid


@pytest.fixture(scope="module")
def another() -> Iterator[int]:
    """The same of another user."""
    with standing(spaces("pid", "mnt"), forked, proc(), user(ANOTHER), orphan=True) as there:
        yield there.pid


def _beside(pid: int, *more: Step) -> tuple[Step, ...]:
    return (entered(pid, "pid", "mnt"), forked, user(SOMEBODY), *more)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_of_the_same_user_and_of_another(
    same: int, another: int, line: tuple[str, str, str, Act | None]
) -> None:
    probe, by, _, act = line
    check(Case(probe, _beside(same), _beside(another), by, act))


@pytest.mark.parametrize("line", [line for line in LINES if line[2]], ids=lambda line: line[0])
def test_a_filter_that_refuses_the_call(same: int, line: tuple[str, str, str, Act | None]) -> None:
    probe, _, name, act = line
    closed = _beside(same, refused(name))
    check(Case(probe, _beside(same), closed, "seccomp (errno 1, operation not permitted)", act))


@pytest.mark.parametrize("request_", [0x4206, 16], ids=("seize", "attach"))
def test_a_filter_that_refuses_one_way_to_trace(same: int, request_: int) -> None:
    """PTRACE_ATTACH stops whom it traces, so that it is not tried, and not called closed."""
    steps = _beside(same, refused_with("ptrace", 0, request_))
    with standing(*steps) as there:
        shown = attempt(there.pid, "process.attach")["process.attach"]
    assert shown.seen == (OPEN if request_ == 16 else UNSUPPORTED), shown


def test_advice_asks_for_two_rights(same: int, another: int) -> None:
    """Over one's own user's process, CAP_SYS_NICE; over another's, ptrace access, too."""
    nice = (entered(same, "pid", "mnt"), forked, user(SOMEBODY, "CAP_SYS_NICE"))
    check(Case("process.advise-memory", nice, _beside(same), "capability CAP_SYS_NICE"))
    foreign = (entered(another, "pid", "mnt"), forked, user(SOMEBODY, "CAP_SYS_NICE"))
    check(Case("process.advise-memory", nice, foreign, PTRACE))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_nobody_else_in_view(same: int, line: tuple[str, str, str, Act | None]) -> None:
    alone = (spaces("pid", "mnt"), forked, proc(), user(SOMEBODY))
    check(Case(line[0], _beside(same), alone, "namespace (pid)"))


def test_seeing_others(another: int) -> None:
    alone = (spaces("pid", "mnt"), forked, proc(), user(SOMEBODY))
    check(Case("process.see-others", _beside(another), alone, "namespace (pid)"))


def test_others_that_proc_hides(another: int) -> None:
    hidden = (
        entered(another, "pid", "mnt"),
        spaces("mnt"),
        proc("hidepid=invisible"),
        forked,
        user(SOMEBODY),
    )
    check(
        Case(
            "process.see-others",
            _beside(another),
            hidden,
            "missing file",
            partial(os.listdir, "/proc/1"),
        )
    )


def test_another_root(same: int) -> None:
    """A neighbour whose root is elsewhere is a way there; one with the same root is none."""
    fenced = (
        entered(same, "pid", "mnt"),
        spaces("mnt"),
        tmpfs("/mnt"),
        _jailed,
        forked,
        user(SOMEBODY),
    )
    check(Case("process.other-root", fenced, _beside(same), "namespace (mnt)"))


def _jailed() -> None:
    """A root of one's own with /proc in it."""
    os.mkdir("/mnt/proc")
    proc_there = os.path.join("/mnt", "proc")
    call("mount", b"/proc", proc_there.encode(), None, 0x1000, None)
    os.chroot("/mnt")
    os.chdir("/")


def test_another_users_root(another: int) -> None:
    fenced = (entered(another, "pid", "mnt"), spaces("mnt"), tmpfs("/mnt"), _jailed, forked)
    check(Case("process.other-root", (*fenced, user(SOMEBODY, "CAP_SYS_PTRACE")),
               (*fenced, user(SOMEBODY)), PTRACE,
               partial(acts.opened, "/proc/1/root", os.O_PATH | os.O_DIRECTORY)))  # fmt: skip


def test_signals_out_of_a_landlock_domain(same: int) -> None:
    """A domain that scopes signals: seen by inject, which stands in it; not by join."""
    within = _beside(same, partial(landlock, scoped=SCOPE_SIGNAL))
    check(
        Case(
            "process.signal", _beside(same), within, "Landlock", partial(os.kill, FIRST, 0), INJECT
        )
    )
    with standing(*within) as there:
        assert attempt(there.pid, "process.signal")["process.signal"].seen == OPEN


def test_neighbours_go_on_unharmed(same: int) -> None:
    """What is tried on a neighbour leaves it as it was: not traced, not stopped, not signalled."""
    with standing(*_beside(same)) as there:
        attempt(there.pid, *(line[0] for line in LINES), "process.advise-memory")
    with open(f"/proc/{same}/status") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    assert status["State"].startswith("S") and status["TracerPid"] == "0"
    assert int(status["SigPnd"], 16) == int(status["ShdPnd"], 16) == 0
    os.kill(same, 0)


def _crowd(count: int) -> Step:
    """Processes of root's, beside which the workload's own user has one that is younger."""

    def step() -> None:
        for number in range(count + 1):
            if os.fork() == 0:
                if number == count:
                    user(SOMEBODY)()
                while True:
                    signal.pause()

    return step


@pytest.mark.parametrize(("count", "seen"), [(30, CLOSED), (MOST_OTHERS + 4, UNSUPPORTED)])
def test_a_crowd(count: int, seen: str) -> None:
    """One's own user's process is found in it; a list that was cut closes nothing."""
    names = ("process.attach", "process.open-memory", "process.signal")
    with standing(spaces("pid", "mnt"), forked, proc(), _crowd(count), orphan=True) as there:
        shown = _attempt(there.pid, SOMEBODY, names)
        assert {one.seen for one in shown.values()} == {OPEN}, shown
        shown = _attempt(there.pid, ANOTHER, names)
        assert {one.seen for one in shown.values()} == {seen}, shown


def _attempt(pid: int, uid: int, names: tuple[str, ...]) -> dict[str, Shown]:
    """These probes on a process of this user's beside that one."""
    with standing(entered(pid, "pid", "mnt"), forked, user(uid)) as there:
        return attempt(there.pid, *names)
