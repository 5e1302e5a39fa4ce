"""Who did it: never more certain than what is known."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from ringfence.watch.live import who as module
from ringfence.watch.live.execs import Execs
from ringfence.watch.live.looks import Look, Stat, look
from ringfence.watch.live.who import NO_PROGRAM, PROGRAM, USER, Census, Process, Who, accounts

PATIENCE = 10.0
root = pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")


class Told(Execs):
    """What a test has the kernel tell of executions."""

    def __init__(self, fd: int = 9) -> None:
        self.fd = fd
        self.pids: list[int] = []
        self.lost = False

    def read(self) -> tuple[list[int], bool]:
        """All that was put here since."""
        found, self.pids = self.pids, []
        lost, self.lost = self.lost, False
        return found, lost


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process, killed at the end."""
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def python(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this interpreter that has said a line."""
    with started(sys.executable, "-c", code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def go_on(process: subprocess.Popen[bytes]) -> None:
    """Have a process that reads a line go on."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def wait(holds: Callable[[], object]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def program(pid: int) -> str:
    """The name of the executable of a process."""
    found = look(pid)
    return os.path.basename(found.executable) if found else ""


def test_who_asks_is_found_and_its_end_noticed() -> None:
    census = Census()
    here = census.ask(os.getpid())
    assert here.uid == os.getuid()
    assert here.executable == os.readlink("/proc/self/exe")
    assert not here.gone
    with subprocess.Popen(["sleep", "60"]) as process:
        pidfd = os.pidfd_open(process.pid)
        assert Process.this().began(process.pid)
        assert not Process(os.getpid(), 1).began(process.pid)
        process.kill()
        process.wait()
        assert census.ask(process.pid, pidfd).gone
        os.close(pidfd)
    assert census.ask(process.pid, -1).gone
    assert census.ask(0).gone


def test_accounts_read_beforehand_are_all_that_is_asked() -> None:
    assert Census(accounts()).ask(os.getpid()).user == Census().ask(os.getpid()).user != ""
    assert Census({}).ask(os.getpid()).user == ""


@contextlib.contextmanager
def shell() -> Iterator[subprocess.Popen[bytes]]:
    """A shell that becomes another program when it is told to."""
    with started("/bin/sh", "-c", "read line; exec sleep 60") as process:
        wait(lambda: program(process.pid) not in ("", os.path.basename(sys.executable)))
        yield process


@pytest.mark.parametrize("heard", [True, False])
def test_a_program_that_began_meanwhile_is_not_told_as_certain(heard: bool) -> None:
    execs = Told()
    census = Census(execs=execs)
    with shell() as process:
        before = census.ask(process.pid)
        assert (before.unsure, before.earlier) == ((), ())
        census.quiet()
        go_on(process)
        wait(lambda: program(process.pid) == "sleep")
        execs.pids = [process.pid] if heard else []  # the kernel's word may come a moment later
        found = census.ask(process.pid)
        assert os.path.basename(found.executable) == "sleep"
        assert (found.unsure, found.earlier) == ((PROGRAM,), (before.executable,))
        assert census.ask(process.pid).unsure == (PROGRAM,), "no event is known to be younger yet"
        census.quiet()
        found = census.ask(process.pid)
        assert (found.unsure, found.earlier) == ((), ())


def test_a_program_whose_beginning_was_told_before_the_change_is_certain() -> None:
    execs = Told()
    census = Census(execs=execs)
    with started("sleep", "60") as process:
        execs.pids = [process.pid]
        census.follow()
        census.quiet()
        assert census.ask(process.pid).unsure == ()


@pytest.mark.parametrize("way", ["lost", "no connector"])
def test_where_executions_are_not_told_only_what_was_seen_before_is_certain(way: str) -> None:
    execs = Told(-1 if way == "no connector" else 9)
    census = Census(execs=execs)
    execs.lost = way == "lost"
    assert census.ask(os.getpid()).unsure == (PROGRAM,)
    census.quiet()
    execs.lost = way == "lost"
    assert census.ask(os.getpid()).unsure == ()
    assert census.ask(os.getppid()).unsure == (PROGRAM,)
    census.quiet()
    with started("sleep", "60") as process:
        sure = census.ask(process.pid).unsure == ()
    assert sure is (way == "lost"), "nothing was lost since"


def test_who_waits_while_it_is_asked_about_is_certain() -> None:
    with started("sleep", "60") as process:
        assert Census().ask(process.pid).unsure == ()


def test_a_name_that_a_process_chose_is_no_executable() -> None:
    """The first thread has ended, with its executable; the others run on."""
    code = (
        "import ctypes, os, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "ctypes.CDLL(None).prctl(15, b'/usr/bin/dpkg')\n"
        "print(flush=True)\n"
        "ctypes.CDLL(None).syscall({'x86_64': 60}.get(os.uname().machine, 93), 0)\n"
    )
    with python(code) as process:
        wait(lambda: not os.path.exists(f"/proc/{process.pid}/exe"))
        pidfd = os.pidfd_open(process.pid)
        found = Census(execs=Told()).ask(process.pid, pidfd)
        os.close(pidfd)
        assert found.executable == os.readlink("/proc/self/exe")
        assert (found.gone, found.name, found.unsure) == (False, "", ())
        assert found.command[:2] == (sys.executable, "-c")


def test_a_process_without_executable_says_why_and_what_it_calls_itself() -> None:
    code = (
        "import ctypes, sys\n"
        "ctypes.CDLL(None).prctl(15, b'/usr/bin/dpkg')\n"
        "print(flush=True)\n"
        "sys.stdin.readline()\n"
    )
    with python(code) as process:
        known = Census()
        assert known.ask(process.pid).executable == os.readlink("/proc/self/exe")
        go_on(process)
        wait(lambda: (found := look(process.pid)) is None or found.file is None)
        found = Census().ask(process.pid)
        assert (found.executable, found.name, found.gone) == ("", "/usr/bin/dpkg", True)
        assert found.uid == os.getuid()
        assert found.unsure[0].startswith(f"{NO_PROGRAM}: ")
        found = known.ask(process.pid)
        assert (found.executable, found.gone) == (os.readlink("/proc/self/exe"), True)
        assert found.unsure == ()


@root
def test_the_user_who_decides_about_files_is_told_beside_the_real_one() -> None:
    code = "import os, sys\nos.seteuid(65534)\nprint(flush=True)\nsys.stdin.readline()\n"
    with python(code) as process:
        found = Census().ask(process.pid)
        assert (found.uid, found.fsuid) == (0, 65534)
    found = Census().ask(os.getpid())
    assert (found.uid, found.fsuid) == (0, 0)


@root
def test_users_are_read_anew_and_a_change_is_told() -> None:
    code = (
        "import os, sys\nprint(flush=True)\nsys.stdin.readline()\n"
        "os.setresuid(65534, 65534, 65534)\nprint(flush=True)\nsys.stdin.readline()\n"
    )
    census = Census(execs=Told())
    with python(code) as process:
        assert process.stdout is not None
        census.quiet()
        found = census.ask(process.pid)
        assert (found.uid, found.fsuid, found.unsure) == (0, 0, ())
        go_on(process)
        process.stdout.readline()
        for _ in range(2):
            found = census.ask(process.pid)
            assert (found.uid, found.fsuid, found.unsure) == (65534, 65534, (USER,))
        census.quiet()
        assert census.ask(process.pid).unsure == ()


SEEN = Look(Stat("x", 0, 7, 99), 99, "/bin/x", (1, 2), "", b"x\0", 0, 0, "", "")


@pytest.mark.parametrize(
    "other",
    [{"file": (1, 3), "executable": "/bin/y"}, {"file": (1, 3)}, {"arguments": 98}, {"torn": True}],
)
def test_each_sign_of_another_program_counts(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    """The same address of the command line among them, as without address randomisation."""
    seen = SEEN
    monkeypatch.setattr(module, "look", lambda pid: seen)
    census = Census(execs=Told())
    assert census.ask(5).unsure == ()
    census.quiet()
    assert census.ask(5).unsure == ()
    seen = msgspec.structs.replace(SEEN, **other)
    found = census.ask(5)
    assert (found.executable, found.unsure) == (seen.executable, (PROGRAM,))


def test_another_process_with_the_number_is_not_taken_for_the_former(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = SEEN
    monkeypatch.setattr(module, "look", lambda pid: seen)
    census = Census(execs=Told())
    census.ask(5)
    seen = msgspec.structs.replace(
        SEEN, stat=Stat("y", 0, 8, 77), arguments=77, executable="/bin/y", uid=4, fsuid=4
    )
    found = census.ask(5)
    assert (found.executable, found.uid, found.unsure) == ("/bin/y", 4, ())


def test_events_that_were_read_together_are_asked_about_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def looked(pid: int) -> Look:
        asked.append(pid)
        return SEEN

    monkeypatch.setattr(module, "look", looked)
    census = Census(execs=Told())
    for read in (1.0, 1.0, 2.0):
        census.ask(5, None, read)
        census.ask(6, None, read)
    assert asked == [5, 6, 5, 6]
    assert census.ask(5, -1, 2.0).gone, "an event whose process had ended is another's"
    assert census.ask(5, None, 2.0) == Who(
        5, 0, "root", "/bin/x", ("x",), fsuid=0
    )  # fmt: skip
