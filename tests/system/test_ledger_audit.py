"""This kernel's own audit lines: a killed system call becomes a record, a forged line does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.watch.ledger.audit import Denial, denial
from ringfence.watch.ledger.auditgroup import AuditGroup, Source
from ringfence.watch.ledger.kmsg import KernelLog
from ringfence.watch.ledger.writer import Ledger
from tests.unit.watch.ledgers import KEY, checked

pytestmark = pytest.mark.system

# A filter that answers getppid with the action given, and allows everything else.
REFUSED = """
import ctypes, struct, sys
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 110), (6, 0, 0, int(sys.argv[1], 16)), (6, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)))
assert libc.syscall(317, 1, int(sys.argv[2]), program) == 0
libc.syscall(110)
"""
LOGGED = 2
"""SECCOMP_FILTER_FLAG_LOG."""


RATE = 5.5
"""Seconds after which the kernel's log takes audit lines again: ten in five, of all processes."""


@pytest.fixture(params=[AuditGroup, KernelLog])
def log(request: pytest.FixtureRequest) -> Iterator[Source]:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers of the filter are those of x86-64")
    if not Path("/proc/self/loginuid").exists():
        pytest.skip("this kernel has no audit")
    log: Source = request.param()
    yield log
    log.close()


def refused(action: str, flags: int = 0) -> tuple[int, int]:
    """PID and exit status of a process that makes the call."""
    process = subprocess.Popen([sys.executable, "-c", REFUSED, action, str(flags)])
    return process.pid, process.wait(20)


def told(log: Source, action: str, flags: int = 0) -> tuple[int, list[Denial]]:
    """Exit status of a process that makes the call, and what the kernel said of it."""
    for _ in range(4):
        pid, status = refused(action, flags)
        found = denials(log, pid)
        if found or isinstance(log, AuditGroup):
            break
        time.sleep(RATE)
    return status, found


def denials(log: Source, pid: int) -> list[Denial]:
    """What the kernel said of a process, within a second."""
    found: list[Denial] = []
    for _ in range(20):
        lines = [denial(line) for line in log.read()]
        found += [item for item in lines if item is not None and item.pid == pid]
        if found:
            break
        time.sleep(0.05)
    return found


def test_a_killed_call_becomes_a_record(log: Source, tmp_path: Path) -> None:
    status, (item,) = told(log, "80000000")
    assert status == -signal.SIGSYS
    assert (item.by, item.enforced, item.detail["call"]) == ("seccomp", True, "getppid")
    assert item.detail["action"] == "kill_process"
    assert item.program == str(Path(sys.executable).resolve())
    assert abs(item.time / 1e6 - time.time()) < 60
    with Ledger.open(tmp_path, KEY) as ledger:
        ledger.append(*item.entry())
    assert checked(tmp_path).broken is None


def test_an_allowed_call_leaves_none_and_a_logged_one_was_not_enforced(log: Source) -> None:
    pid, status = refused("7fff0000")
    assert (status, denials(log, pid)) == (0, [])
    status, (item,) = told(log, "7ffc0000", LOGGED)
    assert status == 0
    assert (item.enforced, item.detail["action"]) == (False, "log")


def test_a_forged_line_is_not_believed(log: Source) -> None:
    """Written by a process to /dev/kmsg: the kernel's word for who wrote it is kept. The audit's
    own group does not get it at all."""
    line = (
        f"<4>audit: type=1326 audit(1.000:1): pid={os.getpid()} "
        'comm="x" exe="/x" sig=31 arch=c000003e syscall=110 compat=0 ip=0x0 code=0x80000000\n'
    )
    with open("/dev/kmsg", "wb", buffering=0) as device:
        device.write(line.encode())
    time.sleep(0.1)
    lines = [item for item in log.read() if f"pid={os.getpid()} " in item]
    assert len(lines) == int(isinstance(log, KernelLog))
    if not lines:
        return
    assert denial(lines[0]) is None
    assert denial(lines[0].partition(";")[2]) is not None
