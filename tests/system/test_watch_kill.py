"""kill -9 of the watcher at random moments: `python -m bench.watch_kill` does it 200 times."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.system.watch_kills import WATCHED, Kills
from tests.system.watch_kills_enforced import Enforced
from tests.system.watch_runs import tmpfs

pytestmark = pytest.mark.system
KILLS = 24


def test_nothing_told_is_lost_and_what_was_missed_is_found(tmp_path: Path) -> None:
    kills = Kills(tmp_path, seed=7)
    for _ in range(KILLS):
        kills.kill()
    kills.settle()
    assert kills.printed > KILLS
    assert kills.owed > KILLS
    assert kills.seen[WATCHED] > KILLS // 3
    assert sum(kills.seen.values()) > kills.seen[WATCHED], "some were killed before"


@pytest.mark.parametrize("rule", ["deny", "allow"])
def test_whatever_is_killed_the_stated_rule_decides(tmp_path: Path, rule: str) -> None:
    with tmpfs(tmp_path / "target") as target:
        enforced = Enforced(tmp_path, target, rule, random.Random(7))
        enforced.decider_killed(3)
        enforced.watcher_killed()
        enforced.standby_killed()
        enforced.starting_killed()
