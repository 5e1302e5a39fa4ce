"""Clones of ours are told from a workload's own children by their name, and ended from not."""

from __future__ import annotations

import os
import select
import signal

import pytest

from ringfence.probe.leftover import NAME, guarded, left_over


def child(name: bytes) -> int:
    """A child of ours with that name, which waits."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open("/proc/self/comm", "wb") as comm:
            comm.write(name)
        os.write(tell, b"1")
        while True:
            signal.pause()
    os.close(tell)
    assert os.read(ready, 1) == b"1"
    os.close(ready)
    return pid


@pytest.mark.parametrize(("name", "found"), [(NAME, True), (b"ringfence-pro", False)])
def test_by_their_name(name: bytes, found: bool) -> None:
    pid = child(name)
    try:
        assert left_over(os.getpid()) == ({pid: False} if found else {})
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert left_over(os.getpid()) == ({pid: True} if found else {})
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("killed", [True, False])
def test_a_guardian_acts_when_we_are_killed(killed: bool) -> None:
    """And not when all went well. The workload is this process."""
    left = child(NAME)
    told, tell = os.pipe()
    ours = os.fork()
    if ours == 0:
        os.close(told)
        # Its descriptor is closed like all others: whoever collects opens what it needs.
        path = f"/proc/{os.getppid()}/fd/{tell}"

        def collect() -> None:
            with open(path, "wb") as stream:
                stream.write(b"collected")

        with guarded(os.getppid(), collect):
            if killed:
                os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
    try:
        os.kill(left, signal.SIGKILL)
        os.waitpid(ours, 0)
        heard, _, _ = select.select([told], [], [], 5 if killed else 0.2)
        assert bool(heard) is killed
    finally:
        os.waitpid(left, 0)
        os.close(told)
        os.close(tell)
