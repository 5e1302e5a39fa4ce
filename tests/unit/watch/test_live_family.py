"""Whose questions are answered without a look: those of the processes that answer, no others."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ringfence.watch.live import fanotify
from ringfence.watch.live.decider import ours
from ringfence.watch.live.looks import process_of
from ringfence.watch.live.standby import Standby
from ringfence.watch.live.terms import Terms
from ringfence.watch.live.who import Process


def test_the_decider_and_the_standby_that_is_its_parent_are() -> None:
    assert ours(os.getpid(), 0)
    assert ours(os.getppid(), os.getppid())
    assert not ours(os.getppid(), 0)


def test_so_is_every_thread_of_the_decider() -> None:
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(threading.get_native_id).result()
        assert thread != os.getpid()
        assert ours(thread, 0)
        assert process_of(thread) == os.getpid()
    assert not ours(0, 0)
    assert process_of(1) == 1


def test_whoever_has_the_number_of_a_standby_that_ended_is_not() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        assert not ours(other.pid, other.pid), "it is not the parent of this process"


@pytest.fixture
def standby(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Standby, list[int]]]:
    """A standby, and the answers that it gives."""
    answers: list[int] = []
    monkeypatch.setattr(fanotify, "answer", lambda group, fd, response: answers.append(response))
    watcher, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    report = os.open(os.devnull, os.O_WRONLY)
    terms = Terms(-1, control.detach(), report, b"/nowhere", b"", b"", b"", False, True, 2.0,
                  Process.this())  # fmt: skip
    found = Standby(terms, [])
    yield found, answers
    found._control.close()
    watcher.close()
    os.close(report)


@pytest.mark.parametrize(("decider", "pid", "answer"), [
    (4_000_000, 4_000_000, fanotify.ALLOW),
    (0, 0, fanotify.DENY),
    (4_000_000, 0, fanotify.DENY),
])  # fmt: skip
def test_the_standby_knows_its_decider_while_it_has_one(
    standby: tuple[Standby, list[int]], decider: int, pid: int, answer: int
) -> None:
    one, answers = standby
    one._decider = decider
    with open("/bin/sh", "rb") as file:
        one._question(file.fileno(), pid, 0.0, executed=True)
    assert answers == [answer]
