"""What somebody else does to a process that we drive is seen before a result is believed."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from ringfence.collect.process import procfs
from ringfence.probe.attempts import attempted
from ringfence.probe.definition import Inside, Outcome, Probe
from ringfence.probe.driven import MOST_SECONDS, Blocked, Driven, Killed, Late, Tampered
from ringfence.probe.join import joined
from ringfence.probe.oracle import Answer, Oracle
from ringfence.probe.view import View
from ringfence.run.registers import machine
from ringfence.run.tracee import InjectionFailed
from tests import seccomp

FORGED = b"\x48\x97\x90\x90"
"""As long as an instruction of any machine; on x86-64, xchg rax, rdi: no call is made."""


@contextlib.contextmanager
def zygote() -> Iterator[Driven]:
    """A process in the place of a child of ours."""
    with seccomp.child(lambda: None) as pid, joined(pid) as (found, _):
        yield found


def rewritten(child: Driven) -> None:
    child.write(child.code, FORGED[: len(machine().instruction)])


def limited(child: Driven) -> None:
    _, hard = resource.prlimit(child.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (0, hard))


def idle(child: Driven) -> None:
    os.sched_setscheduler(child.pid, os.SCHED_IDLE, os.sched_param(0))


def nicer(child: Driven) -> None:
    os.setpriority(os.PRIO_PROCESS, child.pid, os.getpriority(os.PRIO_PROCESS, child.pid) + 1)


def pinned(child: Driven) -> None:
    os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(child.pid))})


SEVERAL = len(os.sched_getaffinity(0)) > 1


@pytest.mark.parametrize(
    "done",
    [rewritten, limited, idle, nicer,
     pytest.param(pinned, marks=pytest.mark.skipif(not SEVERAL, reason="one processor"))],
)  # fmt: skip
def test_a_change_from_outside_is_no_answer(done: Callable[[Driven], None]) -> None:
    with zygote() as found, found.fork() as child:
        assert child.call("getuid") == os.getuid()
        done(child)
        with pytest.raises(Tampered, match="was tampered with"):
            child.call("getuid")


def test_killed_after_a_call_is_not_tampered_with() -> None:
    with zygote() as found, found.fork() as child:
        made = child._made

        def then_killed(regs: object, name: str) -> int:
            answer = made(regs, name)
            os.kill(child.pid, signal.SIGKILL)
            while b"Z" not in procfs.read(child.pid, "stat").rpartition(b")")[2]:
                time.sleep(0.001)
            return answer

        with (
            mock.patch.object(child, "_made", then_killed),
            pytest.raises(InjectionFailed, match="was killed") as caught,
        ):
            child.call("getuid")
        assert caught.type is InjectionFailed


def test_a_forged_result_ends_the_probing() -> None:
    """It is not one more attempt that could not be made."""

    def attempt(inside: Inside) -> Outcome:
        """Asks for nothing."""
        rewritten(inside.child)
        return inside.judged(inside.call("getuid"))

    probe = Probe("test.forged", "test", "", "", attempt)
    with zygote() as found, pytest.raises(Tampered):
        attempted(found, mock.Mock(spec=View), [probe])


def test_children_of_what_was_rewritten_are_not_driven() -> None:
    with zygote() as found:
        with found.fork():
            pass
        fork = found.fork_as

        class Late(Driven):
            def __init__(self, pid: int, *rest: object) -> None:
                super().__init__(pid, *rest)  # type: ignore[arg-type]
                self.write(found.code, FORGED[: len(machine().instruction)])

        with pytest.raises(Tampered):
            fork(Late)


def test_limits_that_a_probe_sets_are_its_own() -> None:
    kind = resource.RLIMIT_NOFILE
    with zygote() as found, found.fork() as child:
        _, hard = resource.prlimit(child.pid, kind)
        assert child.call("prlimit64", 0, kind, struct.pack("=QQ", 0, hard), 0) == 0
        assert child.call("openat", -100, "/", os.O_RDONLY, 0) < 0
        assert resource.prlimit(found.pid, kind) != (0, hard)


def test_killed_by_somebody_is_not_killed_by_a_filter() -> None:
    with zygote() as found:
        oracle = Oracle(found)
        assert oracle.verdict("getuid").passes
        assert oracle._child is not None
        killed = mock.patch.object(oracle._child, "call",
                                   side_effect=Killed("getuid", signal.SIGKILL))  # fmt: skip
        with killed, pytest.raises(Killed):
            oracle.verdict("getuid")
        assert oracle.verdict("getuid").passes
        with mock.patch.object(oracle._child, "call", side_effect=Killed("getuid", signal.SIGSYS)):
            assert oracle.verdict("getuid").answer is Answer.KILL
        assert oracle.verdict("getuid").passes
        oracle.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="looks into processes of another user")
def test_the_same_user_does_not_get_in() -> None:
    """But where a call asks for it."""

    def somebody() -> None:
        os.setresgid(54001, 54001, 54001)
        os.setresuid(54001, 54001, 54001)

    with seccomp.child(somebody) as pid, joined(pid) as (found, _):
        assert found.guarded
        with found.fork() as child:
            assert child.call("getuid") == 54001
            assert not opened_by(somebody, child.pid)
            child.expose()
            assert opened_by(somebody, child.pid)


def opened_by(become: Callable[[], None], pid: int) -> bool:
    """Whether a process after `become` may open the memory of another one for writing."""
    asking = os.fork()
    if asking == 0:
        become()
        try:
            os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
        except PermissionError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(asking, 0)[1] == 0


def test_a_call_that_does_not_come_back_may_be_somebodys_doing() -> None:
    late = mock.patch("ringfence.run.tracee.step", side_effect=InjectionFailed("1 did not stop"))
    with zygote() as found, found.fork() as child:
        with late, pytest.raises(Blocked):
            child.call("getuid")
        idle(child)
        with late, pytest.raises(Tampered, match="its scheduling"):
            child.call("getuid")


def test_a_priority_that_a_probe_sets_is_its_own() -> None:
    with zygote() as found, found.fork() as child:
        mine = os.getpriority(os.PRIO_PROCESS, child.pid)
        assert child.call("setpriority", 0, 0, 19) == 0
        assert child.call("getuid") == os.getuid()
        assert os.getpriority(os.PRIO_PROCESS, found.pid) == mine


def test_the_time_for_all_attempts_ends_the_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was made is cleared away all the same."""

    def attempt(inside: Inside) -> Outcome:
        """Asks for nothing."""
        answer = inside.call("getuid")
        monkeypatch.setattr(time, "monotonic", lambda: began + MOST_SECONDS + 60)
        made.append(inside.child.pid)
        inside.call("getuid")
        return inside.judged(answer)

    began, made = time.monotonic(), list[int]()
    probe = Probe("test.late", "test", "", "", attempt)
    with zygote() as found:
        with pytest.raises(Late, match="was not done after 300 seconds"):
            attempted(found, mock.Mock(spec=View), [probe])
        assert made and not Path(f"/proc/{made[0]}").exists()
