"""strace lets go of what it traces, also where it would wait for ever."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.run.tracing import Tracer
from tests.system.conftest import program

pytestmark = pytest.mark.system

EXECUTES = """
import os, sys, threading, time
for _ in range(4):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
os.write(1, b"up\\n")
sys.stdin.readline()
os.execv("/bin/sleep", ["sleep", "100"])
"""


@contextlib.contextmanager
def threaded() -> Iterator[subprocess.Popen[bytes]]:
    """With five threads; it executes sleep(1) when it gets a line."""
    words = [sys.executable, "-c", EXECUTES]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as found:
        assert found.stdout and found.stdout.readline() == b"up\n"
        yield found
        found.kill()


def executes(pid: int) -> bool:
    """Whether it waits in execve(2) for the end of its other threads."""
    return Path(f"/proc/{pid}/wchan").read_text() == "begin_new_exec"


def wait_for_words(pid: int, start: bytes) -> None:
    """Until its command line begins so."""
    for _ in range(500):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(start):
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} did not execute")


def stop_while_it_executes(
    process: subprocess.Popen[bytes], strace: subprocess.Popen[bytes]
) -> None:
    """strace is to end while the process is in the middle of its execve(2), if that is met."""
    strace.send_signal(signal.SIGSTOP)
    assert process.stdin
    process.stdin.write(b"\n")
    process.stdin.flush()
    for _ in range(100):
        time.sleep(0.01)
        if executes(process.pid):
            break
        strace.send_signal(signal.SIGCONT)
        time.sleep(0.0003)
        strace.send_signal(signal.SIGSTOP)
    strace.terminate()
    strace.send_signal(signal.SIGCONT)


def test_a_process_that_executes_meanwhile_is_let_go(tmp_path: Path) -> None:
    """Its first thread waits for the others, which stand still for strace (de_thread)."""
    program("strace")
    for _ in range(10):
        with threaded() as process:
            tracer = Tracer(process.pid, tmp_path)
            tracer.start()
            strace = tracer._process
            assert strace is not None
            stop_while_it_executes(process, strace)
            tracer.stop()
            wait_for_words(process.pid, b"sleep\0")
            assert "TracerPid:\t0\n" in Path(f"/proc/{process.pid}/status").read_text()
        if strace.returncode == -signal.SIGKILL:
            return
    raise AssertionError("strace never waited for ever")
