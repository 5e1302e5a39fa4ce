"""The thread that judges what happened and has it kept, in the order in which it was read."""

from __future__ import annotations

import threading
import time

from ringfence.watch.baseline.items import shown
from ringfence.watch.baseline.targets import Target
from ringfence.watch.live.happening import FOUND, Happening, merged
from ringfence.watch.live.judge import Judge, Judgement, Verdict
from ringfence.watch.live.keeper import Keeper
from ringfence.watch.live.queue import Checked, Entry, Queue
from ringfence.watch.live.rescan import News, findings, summary
from ringfence.watch.live.told import Told, change

MOST_AT_ONCE = 512
"""Records of one commit: so many share one fdatasync."""
SHARE = 20.0
"""A file that took t seconds to judge is not judged again for 20 t: at most 5 % of the time go to
a large file that is always written."""
CHEAP = 0.005
WRITES = 0.25
"""Seconds between two looks at a file that is only being written, and not closed."""
MOST_HELD = 10_000
IDLE = 0.1
Path = tuple[bytes, bytes]


class Judging:
    """Runs until the queue has ended. `error` is what ended it before."""

    def __init__(self, queue: Queue, judge: Judge, keeper: Keeper, target: Target) -> None:
        self._queue = queue
        self._judge = judge
        self._keeper = keeper
        self._target = target
        self._news = News()
        self._later: list[Happening] = []
        self._costly: dict[Path, float] = {}
        self._written: dict[Path, float] = {}
        self.permitted = 0
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, name="judging")

    def mounts_are(self, mounts: frozenset[bytes]) -> None:
        """Paths at which something is mounted now."""
        self._judge.mounts = mounts

    def _run(self) -> None:
        try:
            while not self._queue.done:
                self._turn(self._queue.take(MOST_AT_ONCE, IDLE))
                self._keeper.standing()  # not only when there is more to tell
            self._costly, self._written = {}, {}
            self._turn([])
        except Exception as error:
            self.error = error
            self._queue.end()

    def _turn(self, entries: list[Entry]) -> None:
        happenings, self._later = self._later, []
        records: list[Told] = []
        for entry in entries:
            if isinstance(entry, Happening):
                happenings.append(entry)
                continue
            records += self._judged(happenings)
            happenings = []
            if isinstance(entry, Told):
                records.append(entry)
            else:
                self._keep(records)
                records = self._checked(entry)
        records += self._judged(happenings)
        self._keep(records)

    def _keep(self, records: list[Told]) -> None:
        for place in range(0, len(records), MOST_AT_ONCE):
            self._keeper.keep(records[place : place + MOST_AT_ONCE])

    def _checked(self, check: Checked) -> list[Told]:
        records = []
        if not isinstance(check.report, str):
            records = list(findings(check.report, self._news, check.name, check.began))
        records.append(summary(self._target, check.report, check.name, len(records)))
        return records

    def _judged(self, happenings: list[Happening]) -> list[Told]:
        now = time.monotonic()
        ready: list[Happening] = []
        for item in happenings:
            (self._later if self._held(item, now) else ready).append(item)
        self._later = merged(self._later)  # a file that is written to all the time fills no memory
        found: dict[Path, Judgement] = {}
        records = []
        for item in merged(ready):
            place = item.folder, item.name
            if place not in found:
                found[place] = self._look(place, item)
            if found[place].verdict is Verdict.PERMITTED:
                self.permitted += 1
                continue
            told = self._told(item, found[place])
            if told is not None:
                records.append(told)
        return records

    def _told(self, item: Happening, judgement: Judgement) -> Told | None:
        path = shown(b"/" + item.path)[0]
        news = self._news.is_news(path, judgement.verdict.value, judgement.item)
        quiet = not news or judgement.verdict in (Verdict.SAME, Verdict.ABSENT)
        if FOUND in item.did and quiet:
            return None  # an event has told of it as well
        return change(item, judgement)

    def _held(self, item: Happening, now: float) -> bool:
        place = item.folder, item.name
        if now < self._costly.get(place, 0.0):
            return True
        return item.did == ("write",) and now < self._written.get(place, 0.0)

    def _look(self, place: Path, item: Happening) -> Judgement:
        judgement = self._judge.judge(*place)
        now = time.monotonic()
        for held, due in (
            (self._costly, judgement.seconds * SHARE if judgement.seconds > CHEAP else 0.0),
            (self._written, WRITES if item.did == ("write",) else 0.0),
        ):
            if due:
                if len(held) >= MOST_HELD:
                    held.clear()
                held[place] = now + due
        return judgement
