"""kill -9 of a writer, many times: what it was told is durable is there, and the ledger whole."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ringfence.watch.ledger.record import Record, decode
from ringfence.watch.ledger.segments import segments
from ringfence.watch.ledger.writer import Ledger
from tests.unit.watch.ledgers import KEY, checked

pytestmark = pytest.mark.system
KILLS = 220
ACKNOWLEDGED = struct.Struct("=QIII")
"""Index, and what was appended there: child, thread, count."""
THREADS = 3
LONGEST = 0.04
"""Seconds until a child is killed, at most; it commits some hundred times a second."""


def write_until_killed(path: Path, child: int, report: int) -> None:
    """Threads that append one by one or in groups, and report each index that they get back."""
    ledger = Ledger.open(path, KEY, segment_bytes=20_000)

    def work(thread: int) -> None:
        count = 0
        while True:
            size = 1 if thread else 4
            entries = [("event", f"{child}/{thread}/{count + more}", {"x": "y" * (count % 700)})
                       for more in range(size)]  # fmt: skip
            for more, index in enumerate(ledger.append_all(entries)):
                os.write(report, ACKNOWLEDGED.pack(index, child, thread, count + more))
            count += size

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def killed(path: Path, child: int, delay: float) -> list[tuple[int, str]]:
    """Index and subject of every append that was acknowledged before the kill.

    Every second child is killed `delay` after its first acknowledgement, in the midst of its
    work; the others `delay` after their start, be it while they open the ledger.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            write_until_killed(path, child, writing)
        finally:
            os._exit(1)
    os.close(writing)
    data = os.read(reading, ACKNOWLEDGED.size) if child % 2 else b""
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    with os.fdopen(reading, "rb") as pipe:
        data += pipe.read()
    whole = len(data) - len(data) % ACKNOWLEDGED.size
    return [(index, f"{who}/{thread}/{count}")
            for index, who, thread, count in ACKNOWLEDGED.iter_unpack(data[:whole])]  # fmt: skip


def subjects(path: Path) -> dict[int, str]:
    lines = (decode(data[:-1]) for item in segments(path) for data in item.lines())
    return {line.index: line.subject for line in lines if isinstance(line, Record)}


def test_nothing_acknowledged_is_missing(tmp_path: Path) -> None:
    chance = random.Random(14)
    acknowledged: dict[int, str] = {}
    for child in range(KILLS):
        for index, subject in killed(tmp_path, child, chance.uniform(0, LONGEST)):
            assert index not in acknowledged
            acknowledged[index] = subject
        Ledger.open(tmp_path, KEY, segment_bytes=20_000).close()
        if any(tmp_path.glob("segment-*")):
            assert checked(tmp_path).broken is None
            assert acknowledged.items() <= subjects(tmp_path).items()
        else:
            assert not acknowledged
    assert len(acknowledged) >= KILLS // 2
    assert len(segments(tmp_path)) > 3


TORN = """
import os, sys
from pathlib import Path
from ringfence.watch.ledger import tail
from ringfence.watch.ledger.writer import Ledger
from tests.unit.watch.ledgers import KEY
ledger = Ledger.open(Path(sys.argv[1]), KEY)
print(ledger.append("event", "acknowledged"), flush=True)
def torn(handle, data):
    os.write(handle, data[: int(sys.argv[2])])
    os.kill(os.getpid(), 9)
tail.write_all = torn
ledger.append("event", "never acknowledged")
"""


@pytest.mark.parametrize("length", [1, 100, 300, 500])
def test_killed_inside_the_write_itself(tmp_path: Path, length: int) -> None:
    """Few random kills hit a half-done write(2): here each does."""
    writer = subprocess.run(
        [sys.executable, "-c", TORN, str(tmp_path), str(length)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (writer.returncode, writer.stdout) == (-signal.SIGKILL, "1\n")
    assert "truncated at record" in (checked(tmp_path).broken or "")
    with Ledger.open(tmp_path, KEY) as ledger:
        ledger.append("event", "after")
    assert list(subjects(tmp_path).values()) == [
        "opened", "acknowledged", "cut", "opened", "after", "closed"
    ]  # fmt: skip
    verdict = checked(tmp_path)
    assert verdict.broken is None
    assert f"{length} bytes behind the last head were cut off" in verdict.notes[0]


def test_two_processes_write_and_one_is_killed(tmp_path: Path) -> None:
    """The other goes on from what is whole."""
    survivor = Ledger.open(tmp_path, KEY, segment_bytes=20_000)
    mine: dict[int, str] = {}
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            subject = f"survivor {len(mine)}"
            mine[survivor.append("event", subject)] = subject

    script = (
        "import sys; from pathlib import Path; from tests.system.test_ledger_kill import *;"
        "write_until_killed(Path(sys.argv[1]), 1, 1)"
    )
    thread = threading.Thread(target=work)
    thread.start()
    theirs: dict[int, str] = {}
    for turn in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        data = child.stdout.read(ACKNOWLEDGED.size * (3 + turn))
        child.kill()
        data += child.stdout.read()
        child.wait()
        child.stdout.close()
        data = data[: len(data) - len(data) % ACKNOWLEDGED.size]
        for index, _, number, count in ACKNOWLEDGED.iter_unpack(data):
            theirs[index] = f"1/{number}/{count}"
    stop.set()
    thread.join()
    survivor.close()
    found = subjects(tmp_path)
    assert checked(tmp_path).broken is None
    assert mine
    assert len(theirs) >= 3 * 8
    assert not mine.keys() & theirs.keys()
    assert mine.items() <= found.items()
    assert theirs.items() <= found.items()
