"""The end of a workload that was asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.run import workload
from ringfence.run.engine import Container
from ringfence.run.fence import Fence

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, *workload.PASSED_ON)


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """This process has its own handlers again afterwards."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


def ended(place: Path, act: str, asked: int) -> tuple[int, float]:
    """Status of a service that does `act` (Python) on SIGTERM, and the seconds that it took to
    end; this process is asked to end it `asked` times, one every 0.2 seconds."""
    text = f"import os, signal, time; signal.signal(15, lambda *_: {act}); print(flush=True)"
    words = [sys.executable, "-c", f"{text}\nwhile True: time.sleep(9)"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
    container = Container(Fence(place, ("/x",), (), "/", 1000, 1000), place)
    container.pid = process.pid
    container.output.close()
    workload._signals(container, signal.SIGTERM)

    def ask() -> None:
        for count in range(asked):
            os.kill(os.getpid(), signal.SIGINT if count % 2 else signal.SIGTERM)
            time.sleep(0.2)

    asking, began = threading.Thread(target=ask), time.monotonic()
    asking.start()
    status = container.wait(20)
    took = time.monotonic() - began
    asking.join()
    assert status is not None
    process.returncode = status
    return status, took


def test_one_that_does_not_end_is_killed_in_time_however_often_it_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "PATIENCE", 0.7)
    for asked in (1, 12):
        status, took = ended(tmp_path, "None", asked)
        assert status == -signal.SIGKILL and 0.6 < took < 2.0


def test_one_that_ends_by_itself_is_left_the_time_for_it(tmp_path: Path) -> None:
    assert ended(tmp_path, "os._exit(7)", 1)[0] == 7
