"""Questions of threads that do not sleep yet: nobody waits for one, and none waits for ever."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ringfence.watch.live import fanotify
from ringfence.watch.live.awake import MOST, PAUSE, Awake
from ringfence.watch.live.decider import Decider
from ringfence.watch.live.ruling import AWAKE, Question
from ringfence.watch.live.terms import Terms
from ringfence.watch.live.who import Process
from tests.watching import Watched

PATIENCE = 0.2


def asked(fd: int, thread: int = 1) -> Question:
    info = os.stat("/")
    return Question(fd, thread, False, b"/x", b"/x", info, (b"", 0, 0, 0, 0, 0))


def test_a_question_is_given_back_once_its_thread_sleeps() -> None:
    sleeping: set[int] = set()
    awake = Awake(PATIENCE, 1 << 20, sleeping.__contains__)
    assert not awake
    awake.keep(asked(5, thread=50), 10.0)
    awake.keep(asked(6, thread=60), 10.0)
    assert awake
    assert awake.asleep(10.0 + PAUSE) == []
    sleeping.add(60)
    assert [item.fd for item in awake.asleep(10.0 + 3 * PAUSE)] == [6]
    assert [item.fd for item in awake.late(10.001 + PATIENCE, 10)] == [5]
    assert not awake


def test_a_thread_is_looked_at_less_and_less_often() -> None:
    looks: list[int] = []

    def looked(thread: int) -> bool:
        looks.append(thread)
        return False

    awake = Awake(2.0, 1 << 20, looked)
    awake.keep(asked(5), 0.0)
    for turn in range(20_000):
        awake.asleep(turn * 0.0001)
    assert 10 < len(looks) < 100


@pytest.mark.parametrize(("descriptors", "most"), [(1 << 20, MOST), (80, 10)])
def test_the_oldest_makes_room(descriptors: int, most: int) -> None:
    awake = Awake(PATIENCE, descriptors, lambda _: False)
    for fd in range(most):
        awake.keep(asked(fd), fd * 1e-9)
    assert awake.late(0.001, 10) == []
    awake.keep(asked(most), 0.001)
    awake.keep(asked(most + 1), 0.001)
    assert [item.fd for item in awake.late(0.001, 1)] == [0]
    assert [item.fd for item in awake.late(0.001, 10)] == [1]


def test_a_thread_that_does_not_sleep_holds_no_other_up_and_is_denied_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is a pipe; one process that asks is busy, and the other sleeps."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "data").write_bytes(b"data")
    (target / "data").chmod(0o666)
    watched = Watched(tmp_path, target)
    watched.init()
    public = bytes.fromhex(watched.report()["sealed_by"].removeprefix("ed25519:"))
    group, kernel = os.pipe()
    hears, says = os.pipe()
    answers: dict[int, int] = {}
    monkeypatch.setattr(
        fanotify, "answer", lambda _, fd, how: answers.setdefault(fd, how) is not None
    )
    decider = Decider(
        Terms(group, says, says, os.fsencode(target), os.fsencode(watched.baseline), public, b"",
              False, True, PATIENCE, Process(0, 0)),
    )  # fmt: skip
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    sleeps = subprocess.Popen(["sleep", "100"])
    try:
        time.sleep(0.3)
        opened = [os.open(target / "data", os.O_RDONLY) for _ in range(40)]
        pids = [busy.pid] * 39 + [sleeps.pid]
        for fd, pid in zip(opened, pids, strict=True):
            os.write(kernel, struct.pack("=IBBHQii", 24, 3, 0, 24, fanotify.OPEN_PERM, fd, pid))
        decider._questions()
        assert answers == {opened[-1]: fanotify.ALLOW}
        decider._come_to_sleep()
        assert len(answers) == 1
        time.sleep(PATIENCE)
        decider._come_to_sleep()
        assert [answers[fd] for fd in opened[:-1]] == [fanotify.DENY] * 39
        for fd in opened:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
        assert AWAKE.encode() in os.read(hears, 1 << 16)
    finally:
        for process in (busy, sleeps):
            process.kill()
            process.wait()
        for fd in (group, kernel, hears, says):
            os.close(fd)
