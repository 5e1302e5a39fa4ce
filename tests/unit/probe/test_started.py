"""A command that is probed ends with all that it has started, wherever that went."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from ringfence.errors import InputError
from ringfence.probe.started import started

SPREAD = """
sh -c 'echo $$ >> {0}; exec sleep 300' &
setsid sh -c 'echo $$ >> {0}; exec sleep 300' &
setsid sh -c 'sh -c "trap : TERM; echo \\$\\$ >> {0}; while :; do sleep 300; done" &'
while [ $(wc -l < {0}) -lt 3 ]; do sleep 0.01; done; echo all >> {0}; wait
"""
"""A child of its group, one of another session, and one that has lost its parent and does not end
when it is asked to."""


def spread(place: Path) -> tuple[str, ...]:
    return "sh", "-c", SPREAD.format(place)


def numbers(place: Path) -> list[int]:
    """The processes that told theirs, once all have."""
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        words = place.read_text().split() if place.exists() else []
        if "all" in words:
            return [int(word) for word in words if word != "all"]
        time.sleep(0.01)
    raise AssertionError("did not come")


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_nothing_stays(tmp_path: Path) -> None:
    place = tmp_path / "pids"
    with started(spread(place)) as pid:
        pids = [pid, *numbers(place)]
        assert alive(pids) == pids
    assert not alive(pids)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_nothing_stays_when_we_are_killed(tmp_path: Path, number: int) -> None:
    place = tmp_path / "pids"
    ours = os.fork()
    if ours == 0:
        try:
            with started(spread(place)):
                signal.pause()
        finally:
            os._exit(1)
    pids = numbers(place)
    assert alive(pids) == pids
    os.kill(ours, number)
    assert os.WTERMSIG(os.waitpid(ours, 0)[1]) == number
    limit = time.monotonic() + 10
    while alive(pids) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not alive(pids)


def test_it_hears_the_signals_that_its_keeper_ignores() -> None:
    with started(("sleep", "300")) as pid:
        status = Path(f"/proc/{pid}/status").read_text()
        ignored = next(line.split()[1] for line in status.splitlines() if "SigIgn" in line)
        mine = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines()
                    if "SigIgn" in line)  # fmt: skip
        for number in (signal.SIGHUP, signal.SIGTERM):
            bit = 1 << number - 1
            assert int(ignored, 16) & bit == int(mine, 16) & bit


def test_one_that_ends_by_itself() -> None:
    refused = pytest.raises(InputError, match=r"sh: ended by itself with status 7; .* foreground")
    with refused, started(("sh", "-c", "exit 7")):
        raise AssertionError("it has ended")


def test_one_that_is_no_program(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("x")
    text.chmod(0o755)
    refused = pytest.raises(InputError, match=r"text: cannot be started: Exec format error")
    with refused, started((str(text),)):
        raise AssertionError("it is none")
