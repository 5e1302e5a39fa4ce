"""`watch run` and `run` keep what the kernel's audit says of the target's processes, and only of
theirs; nothing that a process writes to the kernel's log."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.watch.ledger.record import Record
from ringfence.watch.live.company import of_process
from tests.system.conftest import program
from tests.system.test_ledger_audit import LOGGED, REFUSED
from tests.system.watch_runs import Run

pytestmark = pytest.mark.system


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Run]:
    """A watch of a process in a PID and mount namespace of its own."""
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers of the filter are those of x86-64")
    if not Path("/proc/self/loginuid").exists():
        pytest.skip("this kernel has no audit")
    (tmp_path / "target").mkdir()
    command = [program("unshare"), "--pid", "--mount", "--fork", "--kill-child", "--mount-proc",
               "sleep", "600"]  # fmt: skip
    process = subprocess.Popen(command)
    try:
        yield watched(tmp_path, first_of(process.pid))
    finally:
        process.kill()
        process.wait()


def first_of(unshare: int) -> int:
    """Its child, once that sleeps."""
    return first_child(unshare, "sleep")


def first_child(pid: int, program: str = "unshare") -> int:
    """The child of a process, once it is this program."""
    for _ in range(200):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        if text and os.readlink(f"/proc/{text.strip()}/exe").endswith(program):
            return int(text)
        time.sleep(0.02)
    raise AssertionError("it has no such child")


def watched(place: Path, pid: int) -> Run:
    run = Run(place, Path(str(pid)))
    run.watched.init("--only", place / "target")
    return run


def refused(run: Run | None, action: str) -> int:
    """A process that makes the call, in the watched namespace or here; its exit status."""
    enter = [program("nsenter"), "-t", str(run.target), "-p", "-m"] if run is not None else []
    done = subprocess.run([*enter, sys.executable, "-c", REFUSED, action, str(LOGGED)],
                          timeout=20, check=False)  # fmt: skip
    return done.returncode


def denials(told: list[Record]) -> list[Record]:
    return [item for item in told if item.kind == "denial"]


def test_what_is_killed_in_the_target_is_in_the_ledger_and_what_is_beside_it_is_not(
    inside: Run,
) -> None:
    with inside.running(sign="audit"):
        refused(None, "80000000")
        refused(inside, "80000000")
        inside.until(denials)
        refused(inside, "7ffc0000")
        inside.until(lambda told: len(denials(told)) == 2)
        refused(None, "7ffc0000")
        forge(inside)
        assert inside.stop() == 0
    killed, noted = denials(inside.told())
    assert killed.subject == str(Path(sys.executable).resolve())
    wanted = {"source": "kernel audit", "by": "seccomp", "call": "getppid",
              "action": "kill_process", "enforced": True}  # fmt: skip
    assert wanted.items() <= killed.detail.items()
    assert (noted.detail["action"], noted.detail["enforced"]) == ("log", False)


def forge(run: Run) -> None:
    """What a process can write: a line like the kernel's, about the target's own process."""
    line = (
        f"<4>audit: type=1326 audit({time.time():.3f}:1): pid={run.target} "
        'comm="x" exe="/forged" sig=31 arch=c000003e syscall=110 compat=0 ip=0x0 code=0x80000000\n'
    )
    with open("/dev/kmsg", "wb", buffering=0) as device:
        device.write(line.encode())
    time.sleep(0.3)


def test_all_that_a_loop_does_is_two_records(inside: Run) -> None:
    """One at once, and one that counts the rest."""
    loop = REFUSED + "for _ in range(5): libc.syscall(110)\n"
    enter = [program("nsenter"), "-t", str(inside.target), "-p", "-m"]
    with inside.running(sign="audit"):
        subprocess.run([*enter, sys.executable, "-c", loop, "7ffc0000", str(LOGGED)], check=True)
        inside.until(denials)
        assert inside.stop() == 0
    first, rest = denials(inside.told())
    assert "times" not in first.detail
    assert rest.detail["times"] == 5


def test_a_pid_namespace_within_is_the_targets_and_the_one_around_is_not(inside: Run) -> None:
    enter = [program("nsenter"), "-t", str(inside.target), "-p", "-m"]
    nested = subprocess.Popen([*enter, program("unshare"), "--pid", "--fork", "--kill-child",
                               "sleep", "600"])  # fmt: skip
    try:
        deepest = first_of(first_child(nested.pid))
        of_target = of_process(int(str(inside.target)))
        assert os.readlink(f"/proc/{deepest}/ns/pid") != os.readlink(
            f"/proc/{inside.target}/ns/pid"
        )
        now = int(time.time() * 1e6)
        assert of_target.judge(deepest, now) == ""
        assert of_target.judge(os.getpid(), now) is None
        assert of_process(deepest).judge(int(str(inside.target)), now) is None
    finally:
        nested.kill()
        nested.wait()


@pytest.mark.parametrize("kept", [True, False])
def test_the_units_capability_is_what_it_takes(inside: Run, kept: bool) -> None:
    """Without it one line says so, and the run goes on."""
    names = ["sys_admin", "dac_read_search", "sys_ptrace", "lease", *(["audit_read"] * kept)]
    fence = [program("setpriv"), "--no-new-privs", "--bounding-set",
             ",".join(["-all", *(f"+{name}" for name in names)])]  # fmt: skip
    # /dev/kmsg takes CAP_SYSLOG where the kernel's log is restricted, and cannot be had without.
    if not kept and Path("/proc/sys/kernel/dmesg_restrict").read_text().strip() != "1":
        pytest.skip("anybody may read the kernel's log here")
    with inside.running(sign="audit", before=fence):
        refused(inside, "80000000")
        if kept:
            inside.until(denials)
        with contextlib.suppress(ProcessLookupError):
            assert inside.stop() == 0
    (said,) = inside.events("audit")
    assert ("not read" in said.detail.get("why", "")) is not kept
    assert bool(denials(inside.told())) is kept


DAEMON = """
import os, sys, time
input()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        time.sleep(0.5)
        exec(sys.argv[3])
        time.sleep(5)
    os._exit(0)
os.wait()
input()
"""
"""A second fork, whose parent ends before the call that the third word makes."""


def waiting(code: str) -> subprocess.Popen[bytes]:
    """A process here that makes the call once it is told a line."""
    return subprocess.Popen([sys.executable, "-c", code, "7ffc0000", str(LOGGED), REFUSED],
                            stdin=subprocess.PIPE)  # fmt: skip


def tell(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def test_a_daemon_of_a_process_without_namespaces_is_the_targets(tmp_path: Path) -> None:
    """And one that began before the target is not."""
    if os.uname().machine != "x86_64" or not Path("/proc/self/loginuid").exists():
        pytest.skip("the filter is for x86-64, and the kernel must have audit")
    (tmp_path / "target").mkdir()
    earlier = waiting("input()\n" + REFUSED)
    time.sleep(0.05)  # more than a clock tick
    target = waiting(DAEMON)
    try:
        run = watched(tmp_path, target.pid)
        with run.running("--kind", "process", sign="audit"):
            tell(earlier)
            assert earlier.wait(20) == 0
            tell(target)
            run.until(denials)
            assert run.stop() == 0
    finally:
        for process in (earlier, target):
            process.kill()
            process.communicate()
    (told,) = denials(run.told())
    assert told.detail["call"] == "getppid"
    assert told.detail["pid"] not in (earlier.pid, target.pid)
    assert "unsure" not in told.detail
