"""kill -9 of `ringfence watch run`, again and again on one ledger, while files change.

`Kills` is what the tests and `python -m bench.watch_kill` share: after each kill it asserts that
- the ledger verifies, and goes on from the head that was kept after the kill before;
- every line that was printed is a record, in the same order and with the same words;
- a full check that ended told of every difference that there was when nobody watched. What a run
  was killed too early to tell stays owed to the next one.
What differs is found by a plain comparison of contents, not by anything of Ringfence.
"""

from __future__ import annotations

import collections
import itertools
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ringfence.report.watch_live import line
from ringfence.watch.ledger.checkpoint import Checkpoint
from ringfence.watch.ledger.keys import private_key
from ringfence.watch.ledger.listing import Wanted, records
from ringfence.watch.ledger.record import Kind, Record
from ringfence.watch.ledger.segments import segments
from ringfence.watch.ledger.verify import Source, Verdict, verify
from ringfence.watch.ledger.writer import Ledger
from ringfence.watch.live.told import Told
from tests.system.watch_runs import Run

FILES = 40
DISTURBED = 8
PATIENCE = 60.0
LIVE = 0.003
"""Seconds between two changes while it runs."""
MOMENTS: tuple[tuple[bytes, float], ...] = (
    (b"", 0.8), (b" start ", 0.4), (b" full-check ", 0.1)
)  # fmt: skip
"""Killed at random up to so many seconds after this word was printed, or after the start."""

WATCHED = "while it watched"


class Tree:
    """A target that is changed, and what it was at first."""

    def __init__(self, place: Path, chance: random.Random) -> None:
        self.place, self._chance = place, chance
        for folder in ("base", "live"):
            (place / folder).mkdir(parents=True)
        for number in range(FILES):
            (place / f"base/{number}").write_text(f"content {number}")
        self._first = self._now()

    def _now(self) -> dict[str, bytes]:
        return {
            f"/{path.relative_to(self.place)}": path.read_bytes() for path in self.place.glob("*/*")
        }

    def differing(self) -> dict[str, str]:
        """Path -> added, removed or changed, beside what it was at first."""
        now = self._now()
        found = dict.fromkeys(now.keys() - self._first.keys(), "added")
        found |= dict.fromkeys(self._first.keys() - now.keys(), "removed")
        same = now.keys() & self._first.keys()
        return found | {path: "changed" for path in same if now[path] != self._first[path]}

    def restore(self, but: str) -> None:
        """As it was at first, except for paths that begin with `but`."""
        for path, verdict in self.differing().items():
            if path.startswith(but):
                continue
            if verdict == "added":
                (self.place / path[1:]).unlink()
            else:
                (self.place / path[1:]).write_bytes(self._first[path])

    def disturb(self, round_: int) -> None:
        """Changes that nobody sees happen."""
        for number in self._chance.sample(range(FILES), DISTURBED):
            path = self.place / f"base/{number}"
            act = self._chance.choice(("write", "remove", "move", "add"))
            if act == "add":
                (self.place / f"base/{round_}-{number}").write_text("added")
            elif not path.exists() or act == "write":
                path.write_text(f"changed in {round_}")
            elif act == "remove":
                path.unlink()
            else:
                path.rename(self.place / f"base/{round_}-moved-{number}")

    def keep_changing(self, round_: int, stop: threading.Event) -> None:
        """Files that come, are renamed and go, until `stop`; all are named after the round."""
        for number in itertools.count():
            if stop.wait(LIVE):
                return
            path = self.place / f"live/{round_}-{number}"
            path.write_text("live")
            if number % 3 == 1:
                path.rename(f"{path}-moved")
            elif number % 5 == 4:
                path.unlink()


class Kills:
    """Kills on one tree and one ledger below `place`. The `seed` is told where one fails."""

    def __init__(self, place: Path, seed: int) -> None:
        self._chance = random.Random(seed)
        self.seed = seed
        self.tree = Tree(place / "target", self._chance)
        self.run = Run(place, place / "target")
        self.run.watched.init()
        self._private = private_key(self.run.key)
        self._kept: tuple[Checkpoint, ...] = ()
        self._records = 0
        self.rounds = self.printed = self.owed = 0
        self.seen: collections.Counter[str] = collections.Counter()
        """How far the run was when it was killed."""

    def kill(self) -> None:
        """One run, killed at a random moment, and all that is asserted of it."""
        word, longest = MOMENTS[self.rounds % len(MOMENTS)]
        self._round(word, self._chance.uniform(0, longest))

    def settle(self) -> None:
        """A last run, killed when its full check has ended: nothing is owed any more."""
        before = self.seen[WATCHED]
        self._round(MOMENTS[-1][0], 0.0)
        assert self.seen[WATCHED] == before + 1

    def _round(self, word: bytes, delay: float) -> None:
        self.rounds += 1
        self.tree.disturb(self.rounds)
        owed = self.tree.differing()
        printed = self._killed(word, delay)
        try:
            size = self._verified()
            told = self._told()
            self._same(printed, told)
            self._owed(owed, told)
            self._records = size
        except AssertionError as error:
            raise AssertionError(f"round {self.rounds} of seed {self.seed}: {error}") from error

    def _killed(self, word: bytes, delay: float) -> list[str]:
        """Start it, wait for `word` and the delay, SIGKILL; the whole lines that it printed."""
        run = self.run
        command = [
            sys.executable, "-m", "ringfence", "watch", "run", run.target,
            "--baseline", run.watched.baseline, "--public-key", run.watched.public,
            "--ledger", run.ledger, "--key", run.key,
        ]  # fmt: skip
        stop = threading.Event()
        changing = threading.Thread(target=self.tree.keep_changing, args=(self.rounds, stop))
        with run.output.open("wb") as output:
            process = subprocess.Popen(list(map(str, command)), stdout=output)
        changing.start()
        try:
            deadline = time.monotonic() + PATIENCE
            while word not in run.output.read_bytes():
                assert process.poll() is None, f"it ended by itself: {process.returncode}"
                assert time.monotonic() < deadline, f"{word!r} was not told"
                time.sleep(0.005)
            time.sleep(delay)
        finally:
            process.kill()
            ended = process.wait()
            stop.set()
            changing.join()
        assert ended == -signal.SIGKILL, f"it ended with {ended}"
        whole = run.output.read_bytes().rpartition(b"\n")[0]
        return whole.decode().splitlines()

    def _told(self) -> list[Record]:
        """The records that this run added."""
        if not self.run.ledger.is_dir() or not any(self.run.ledger.glob("segment-*")):
            return []
        last = segments(self.run.ledger)[-2:]  # a run is too short to begin two
        lines = (row for segment in last for row in segment.lines())
        return [item for item in records(lines, Wanted()) if item.index >= self._records]

    def _same(self, printed: list[str], told: list[Record]) -> None:
        rows = [line(Told(item.kind, item.subject, item.detail), "")
                for item in told if item.kind != Kind.LEDGER]  # fmt: skip
        words = [row[row.index(" ") :] for row in printed]
        for number, word in enumerate(words):
            kept = rows[number] if number < len(rows) else "nothing"
            assert word == kept, f"printed was {word!r}, kept {kept!r}, line {number}"
        self.printed += len(printed)

    def _verified(self) -> int:
        """How many records the ledger has. A half-written commit, never acknowledged, is cut off
        by whoever opens it next, as the next run does."""
        if not any(self.run.ledger.glob("segment-*")):
            return 0
        found = self._verdict()
        if found.broken is not None and "truncated at record" in found.broken:
            self.seen["within a write"] += 1
            Ledger.open(self.run.ledger, self._private).close()
            found = self._verdict()
        assert found.broken is None, found.broken
        assert found.head is not None
        self._kept = (found.head,)
        return found.size

    def _verdict(self) -> Verdict:
        sources = [Source(item.number, item.lines) for item in segments(self.run.ledger)]
        return verify(sources, self._private.public_key(), self._kept)

    def _owed(self, owed: dict[str, str], told: list[Record]) -> None:
        """After a full check everything that differed before is told; then all is put back."""
        events = {item.detail.get("event") for item in told}
        if "full-check" not in events:
            self.seen["while it checked" if "start" in events else "while it started"] += 1
            return
        self.seen[WATCHED] += 1
        found = {item.subject: item.detail.get("verdict")
                 for item in told if item.detail.get("event") == "found"}  # fmt: skip
        missing = owed.items() - found.items()
        assert not missing, f"not told: {missing}"
        self.owed += len(owed)
        self.tree.restore(but=f"/live/{self.rounds}-")
