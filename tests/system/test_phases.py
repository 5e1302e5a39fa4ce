"""A system call made by another process: it is made, and the process goes on unharmed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringfence.collect.process import procfs
from ringfence.collect.process.tree import descendants
from ringfence.collect.seccomp.live import read_live
from ringfence.collect.seccomp.tables import native_calls
from ringfence.run.inject import Prepared, call, stopped
from ringfence.run.notify import Listener
from ringfence.run.phases import PhaseFailed, tighten

pytestmark = pytest.mark.system

WORKER = """
import ctypes, os, select, socket, sys, threading, time
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
pipe = os.pipe()
def turn():
    count = 0
    while True:
        count += 1
        time.sleep(0.001)
        if count > 10**9: break
for _ in range(int(sys.argv[1])):
    threading.Thread(target=turn, daemon=True).start()
if sys.argv[2] == "fork" and os.fork() == 0:
    pass
os.write(1, b"up\\n")
while True:
    waits = {"sleep": lambda: time.sleep(0.05),
             "poll": lambda: select.select([0], [], [], 60),
             "fork": lambda: select.select([0], [], [], 60),
             "read": lambda: select.epoll().poll(0.05)}[sys.argv[2]]()
    line = os.read(0, 100) if sys.argv[2] in ("poll", "fork") else b"x"
    if sys.argv[2] in ("poll", "fork"):
        try:
            os.mkdir("/proc/none"); said = "made"
        except OSError as error:
            said = str(error.errno)
        print(said, flush=True)
"""


def profile() -> dict[str, object]:
    """Everything but mkdir, which is answered with an errno of its own."""
    names = [name for name in native_calls() if name != "mkdir"]
    rules: list[dict[str, object]] = [{"names": names, "action": "SCMP_ACT_ALLOW"}]
    return {"defaultErrnoRet": 77, "syscalls": rules}


@contextmanager
def worker(threads: int, way: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(threads), way],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    time.sleep(0.1)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def filters(pid: int) -> list[str]:
    return [
        procfs.fields((task / "status").read_text())["Seccomp_filters"]
        for task in Path(f"/proc/{pid}/task").iterdir()
    ]


@pytest.mark.parametrize("threads", [0, 5])
def test_all_threads_get_the_filter_and_go_on(threads: int) -> None:
    with worker(threads, "poll") as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"?")
        process.stdin.flush()
        assert process.stdout.readline() == b"2\n", "no such folder, before"
        assert tighten(process.pid, profile()) == 1
        assert filters(process.pid) == ["1"] * (threads + 1)
        process.stdin.write(b"?")
        process.stdin.flush()
        assert process.stdout.readline() == b"77\n", "the filter's own errno, after"
        assert read_live(process.pid, ()).calls["mkdir"].errno == 77


def test_what_it_refuses_is_told_and_the_listener_is_no_descriptor_of_the_service(
    tmp_path: Path,
) -> None:
    """In each of its processes: the errno is the fence's own, and nobody but us hears."""
    told: list[str] = []

    def slowly(name: str, pid: int) -> None:
        time.sleep(0.2)
        told.append(f"{name} {pid}")

    with worker(2, "fork") as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"up\n", "the child"
        members = descendants(process.pid)
        handles = [os.listdir(f"/proc/{pid}/fd") for pid in members]
        listener = Listener(tmp_path / "socket", slowly)
        try:
            assert tighten(process.pid, profile(), listener) == 2
            assert [os.listdir(f"/proc/{pid}/fd") for pid in members] == handles
            for _ in range(4):
                process.stdin.write(b"?")
                process.stdin.flush()
                assert process.stdout.readline() == b"1\n", "EPERM"
            listener.settle()
            assert listener.refused == {"mkdir": 4}
            assert len(told) == 1 and told[0].startswith("mkdir ")
        finally:
            listener.close()
        process.stdin.write(b"?")
        process.stdin.flush()
        assert process.stdout.readline() == b"38\n", "without a listener it is refused all the same"


def test_the_listener_of_the_first_filter_gives_way(tmp_path: Path) -> None:
    """A process has one at most, and while the first notifies the second must hear it all."""
    first = {**profile(), "syscalls": [{"names": [n for n in native_calls() if n != "rmdir"],
                                        "action": "SCMP_ACT_ALLOW"}]}  # fmt: skip
    with worker(2, "poll") as process:
        listener = Listener(tmp_path / "socket")
        try:
            assert tighten(process.pid, first, listener) == 1
            listener._handed |= listener._filters  # as the engine would have done
            assert tighten(process.pid, profile(), listener) == 1
            assert filters(process.pid) == ["2"] * 3
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"?")
            process.stdin.flush()
            assert process.stdout.readline() == b"1\n"
            listener.settle()
            assert listener.refused == {"mkdir": 1} and listener.hears
            listener._handed |= listener._filters
            listener.release()
            assert not listener.hears
        finally:
            listener.close()


def test_children_get_it_too() -> None:
    with worker(0, "fork") as process:
        assert tighten(process.pid, profile()) == 2


@pytest.mark.parametrize("way", ["sleep", "read", "poll"])
def test_a_process_is_driven_again_and_again_unharmed(way: str) -> None:
    """Whatever it waits in; registers and stack are as before, or it would not live long."""
    with worker(3, way) as process:
        for _ in range(60):
            with stopped(process.pid) as before:
                assert (
                    call(process.pid, before, 39, 16, lambda place: Prepared((), b""))
                    == process.pid
                )
                assert call(process.pid, before, 9999, 16, lambda place: Prepared((), b"")) == -38
            time.sleep(0.002)
        assert process.poll() is None
        status = procfs.fields(procfs.read(process.pid, "status").decode())
        assert status["TracerPid"] == "0" and status["State"][0] in "RS"
        if way == "poll":
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"?")
            process.stdin.flush()
            assert process.stdout.readline() == b"2\n"


def test_without_no_new_privileges_it_is_refused() -> None:
    """A process of root may; another may not: the kernel's own rule, reported."""
    process = subprocess.Popen(["setpriv", "--reuid=12345", "sleep", "60"])
    time.sleep(0.2)
    try:
        with pytest.raises(PhaseFailed, match="permission denied"):
            tighten(process.pid, profile())
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
