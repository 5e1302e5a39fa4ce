"""Which processes are a target's: living ones are looked at, of others what was seen counts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ringfence.watch.baseline.targets import Target
from ringfence.watch.live import roster
from ringfence.watch.live.company import Company, company
from ringfence.watch.live.verdicts import BEGUN, SEEN, UNKNOWN

GONE, OTHER, YOUNGER = 4_194_400, 4_194_401, 4_194_402
"""Beyond PID_MAX_LIMIT: no process has such a number."""


def now() -> int:
    return int(time.time() * 1e6)


@pytest.fixture
def child() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate(b"\n")


def made(inside: dict[int, bool]) -> Company:
    """Of these processes, whether they are alive or not."""
    return Company(inside.get)


def test_a_living_process_is_looked_at(child: int) -> None:
    assert made({child: True}).judge(child, now()) == ""
    assert made({child: False}).judge(child, now()) is None


def test_a_number_that_was_given_to_a_later_process_tells_nothing(child: int) -> None:
    before = now() - 3600 * 1_000_000
    assert made({child: True}).judge(child, before) == UNKNOWN
    assert made({child: False}).judge(child, before) == UNKNOWN


def test_one_that_has_ended_is_what_was_seen_under_its_number() -> None:
    for seen, verdict in ((True, SEEN), (False, None)):
        inside: dict[int, bool] = {GONE: seen}
        found = made(inside)
        found.started(1, GONE)
        inside.clear()
        assert found.judge(GONE, now()) == verdict


def test_one_that_nobody_saw_is_its_parents(child: int) -> None:
    for seen, verdict in ((True, BEGUN), (False, None)):
        found = made({child: seen})
        found.started(child, OTHER)
        found.started(OTHER, GONE)
        assert found.judge(GONE, now()) == verdict
    assert found.judge(YOUNGER, now()) == UNKNOWN


def test_what_was_not_heard_is_not_guessed() -> None:
    inside = {GONE: True}
    found = made(inside)
    found.started(1, GONE)
    inside.clear()
    found.started(0, 0)
    assert found.judge(GONE, now()) == UNKNOWN


def test_those_that_live_on_are_kept_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "MOST_KNOWN", 4)
    found = made({GONE: True})
    found.started(1, GONE)
    for number in range(20):
        found.started(GONE, YOUNGER + number)
    assert len(found._known) <= 4
    assert found.judge(YOUNGER + 19, now()) == BEGUN
    assert found.judge(YOUNGER, now()) == UNKNOWN


def test_a_directorys_are_those_that_have_it_as_root_and_a_hosts_are_all(child: int) -> None:
    for path, verdict in (("/", ""), ("/usr", None)):
        root = os.open(path, os.O_PATH)
        try:
            from pathlib import Path

            found = company(Target("directory", path, Path(path)), root)
            assert found is not None and found.judge(child, now()) == verdict
            assert company(Target("host", path, Path(path)), root) is None
        finally:
            os.close(root)
