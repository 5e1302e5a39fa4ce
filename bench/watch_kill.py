"""kill -9 of `ringfence watch run` at 200 random moments on one ledger, and of each process that
enforces at others: what tests/system/test_watch_kill.py does a few times. Needs root.

`python -m bench.watch_kill [SEED]`; the seed is printed."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

from bench.timing import finish, verdict
from tests.system.watch_kills import WATCHED, Kills
from tests.system.watch_kills_enforced import Enforced
from tests.system.watch_runs import tmpfs

KILLS = 200
DECIDERS, TURNS = 20, 3


def watcher(place: Path, seed: int) -> list[bool]:
    """200 kills; each asserts all that is asserted of it, so that a failure ends this at once."""
    began = time.monotonic()
    kills = Kills(place, seed)
    for _ in range(KILLS):
        kills.kill()
    kills.settle()
    seen = ", ".join(f"{count} {what}" for what, count in sorted(kills.seen.items()))
    print(f"killed {seen}; {time.monotonic() - began:.0f} s")
    return [
        verdict("kills after which the ledger verified", f"{KILLS} of {KILLS}", True),
        verdict("lines printed, all of them in the ledger", f"{kills.printed}", kills.printed > 0),
        verdict("unseen changes, all found by the next full check", f"{kills.owed}",
                kills.owed > 0 and kills.seen[WATCHED] > 0),
    ]  # fmt: skip


def enforcing(place: Path, rule: str, seed: int) -> bool:
    """Decider, standby and watcher killed, while a foreign program tries to run all the time."""
    place.mkdir()
    with tmpfs(place / "target") as target:
        enforced = Enforced(place, target, rule, random.Random(seed))
        enforced.decider_killed(DECIDERS)
        for _ in range(TURNS):
            enforced.watcher_killed()
            enforced.standby_killed()
            enforced.starting_killed()
    return verdict(f"kills after which --when-gone {rule} held", f"{enforced.kills}", True)


def main() -> None:
    """All of it."""
    assert os.getuid() == 0, "needs root"
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(1 << 32)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as name:
        place = Path(name)
        results = watcher(place, seed)
        for rule in ("deny", "allow"):
            results.append(enforcing(place / rule, rule, seed))
        finish(results)


if __name__ == "__main__":
    main()
