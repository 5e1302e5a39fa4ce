"""Files that are read for a decision: beside each other, once each, and no more than can be."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.watch.live.naming import Names
from ringfence.watch.live.reading import MOST_THREADS, Asked, Readings
from ringfence.watch.live.ruling import Question, Ruling, question

DESCRIPTORS = 64
PATIENCE = 10.0
Done = tuple[Question, Ruling, list[Asked]]


class Bench:
    """Readings whose reader waits for `go` at files that are called slow."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.go = threading.Event()
        self.names = Names(os.fsencode(place))
        self.read: list[bytes] = []
        self.done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self.readings = self.of(DESCRIPTORS)

    def of(self, descriptors: int) -> Readings:
        return Readings(self._full, lambda *done: self.done.put(done), descriptors)

    def _full(self, asked: Question) -> Ruling:
        os.fstat(asked.fd)
        self.read.append(asked.place)
        if asked.place.startswith(b"slow"):
            self.go.wait(PATIENCE)
        if asked.place == b"broken":
            raise OSError(5, "it cannot be read")
        return Ruling(True, path=asked.place)

    def question(self, name: str) -> Question:
        handle = os.open(self.place / name, os.O_RDONLY | os.O_CREAT, 0o600)
        return question(handle, os.getpid(), self.names, executed=False)

    def ask(self, name: str, *, by: float = 1e9) -> bool:
        """Ask and close the descriptor at once: the reading must have one of its own."""
        asked = self.question(name)
        try:
            return self.readings.wanted(asked, Asked(asked.fd, 1, False, asked.place, by))
        finally:
            os.close(asked.fd)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path)
    yield found
    found.go.set()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_slow_file_holds_no_other_up(bench: Bench) -> None:
    for number in range(4):
        assert bench.ask(f"slow{number}")
    assert bench.ask("quick")
    read, ruling, asked = bench.done.get(timeout=PATIENCE)
    assert (read.place, ruling.allowed, len(asked)) == (b"quick", True, 1)
    bench.go.set()
    others = {bench.done.get(timeout=PATIENCE)[0].place for _ in range(4)}
    assert others == {b"slow0", b"slow1", b"slow2", b"slow3"}


def test_a_file_is_read_once_for_all_who_wait_and_keeps_one_descriptor(bench: Bench) -> None:
    before = descriptors()
    for _ in range(10):
        assert bench.ask("slow")
    assert descriptors() == before + 1
    bench.go.set()
    _, _, asked = bench.done.get(timeout=PATIENCE)
    assert len(asked) == 10
    assert bench.read == [b"slow"]
    assert descriptors() == before


def test_who_waited_too_long_is_given_back_once_and_the_file_is_read_on(bench: Bench) -> None:
    assert bench.ask("slow", by=1.0)
    assert bench.ask("slow", by=1.5)
    assert bench.ask("slow", by=9.0)
    assert bench.readings.late(0.5, 100) == []
    assert len(bench.readings.late(2.0, 1)) == 1
    assert len(bench.readings.late(2.0, 100)) == 1
    assert bench.readings.late(2.0, 100) == []
    bench.go.set()
    assert [item.by for item in bench.done.get(timeout=PATIENCE)[2]] == [9.0]


def test_more_than_can_be_is_refused_until_somebody_is_answered(bench: Bench) -> None:
    waiting = DESCRIPTORS // 4
    assert all(bench.ask("slow", by=1.0) for _ in range(waiting))
    assert not bench.ask("slow")
    assert len(bench.readings.late(2.0, 1)) == 1
    assert bench.ask("slow")
    assert not bench.ask("quick")


def test_more_files_than_can_be_are_refused(bench: Bench) -> None:
    bench.readings = bench.of(8 * 3)
    assert all(bench.ask(f"slow{number}") for number in range(3))
    assert not bench.ask("slow3")
    assert bench.ask("slow0"), "it is being read already"


def test_more_files_than_threads_are_read_after_each_other(bench: Bench) -> None:
    bench.readings = bench.of(8192)
    for number in range(MOST_THREADS + 5):
        assert bench.ask(f"slow{number}")
    deadline = time.monotonic() + PATIENCE
    while len(bench.read) < MOST_THREADS:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(bench.read) == MOST_THREADS
    bench.go.set()
    assert len({bench.done.get(timeout=PATIENCE)[0].place for _ in range(MOST_THREADS + 5)}) == (
        MOST_THREADS + 5
    )


def test_a_file_that_cannot_be_read_is_denied_and_the_next_one_is_read(bench: Bench) -> None:
    assert bench.ask("broken")
    _, ruling, asked = bench.done.get(timeout=PATIENCE)
    assert (ruling.allowed, ruling.why, len(asked)) == (False, "input/output error", 1)
    assert bench.ask("quick")
    assert bench.done.get(timeout=PATIENCE)[1].allowed


def test_the_end_of_a_thread_is_the_end_of_its_decider() -> None:
    code = (
        "import threading, time\n"
        "from ringfence.watch.live import decider\n"
        "threading.excepthook = decider._ended\n"
        "threading.Thread(target=lambda: 1 // 0).start()\n"
        "time.sleep(20)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=15, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"ringfence: the decider ends: ZeroDivisionError")
