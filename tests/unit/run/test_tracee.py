"""How long a stop is waited for: a busy machine is no reason to give a process up."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from ringfence.run import tracee

LATE = 0.4
"""Seconds until the traced process stops by itself, much more than the patience tried here."""


@contextlib.contextmanager
def traced(until: Callable[[float], None]) -> Iterator[int]:
    """A child of ours under ptrace that stops itself after `LATE` seconds of `until`."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.read(read, 1)
            until(time.monotonic() + LATE)
            os.kill(os.getpid(), signal.SIGUSR1)
        finally:
            os._exit(0)
    try:
        tracee.request(tracee.SEIZE, pid)
        os.write(write, b"x")
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it has ended
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


def computes(end: float) -> None:
    while time.monotonic() < end:
        pass


def sleeps(end: float) -> None:
    time.sleep(end - time.monotonic())


def test_a_process_that_is_ready_to_run_is_waited_for() -> None:
    with traced(computes) as pid:
        assert os.WSTOPSIG(tracee.status(pid, 0.05)) == signal.SIGUSR1


def test_one_that_waits_for_something_else_is_not() -> None:
    with traced(sleeps) as pid, pytest.raises(tracee.InjectionFailed, match="did not stop"):
        tracee.status(pid, 0.05)


def test_nor_is_one_that_computes_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracee, "MOST_READY", 0.1)
    with traced(computes) as pid, pytest.raises(tracee.InjectionFailed, match="did not stop"):
        tracee.status(pid, 0.05)


def test_its_end_is_told() -> None:
    with traced(computes) as pid:
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(tracee.Ended):
            tracee.status(pid, 0.05)
