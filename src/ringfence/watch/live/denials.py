"""What the kernel's audit says about a target's processes, as records: seccomp, AppArmor, SELinux,
Landlock."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Iterator

from ringfence.errors import MissingError
from ringfence.watch.ledger.audit import Denial, denial, landlock_domain
from ringfence.watch.ledger.auditgroup import Source, audit_source
from ringfence.watch.ledger.repeats import Repeats, Tally
from ringfence.watch.live.company import Company
from ringfence.watch.live.descent import Descent
from ringfence.watch.live.told import DENIAL, EVENT, Told

SOURCE = "kernel audit"
DOMAIN = "process: the one that made the Landlock domain, which may have begun the one refused"
MOST_DOMAINS = 4096
SETTLE = 0.05
"""Seconds."""


class Denials:
    """Reads the audit from now on. `fd` is -1 where that is not allowed; `started` says so once."""

    def __init__(self, name: str, company: Company | Descent | None) -> None:
        """`name` is the target's; `company` its processes, None where all are."""
        self._name = name
        self._company = company
        self._repeats = Repeats()
        self._domains: dict[str, int] = {}
        self._lost, self._losses = 0, Tally()
        self._unplaced = Tally()
        self._source: Source | None = None
        self._why = ""
        try:
            self._source = audit_source()
        except MissingError as error:
            self._why = error.line()
        self.fd = self._source.fileno() if self._source is not None else -1
        if company is not None:
            company.look()

    def started(self) -> Told:
        """What is read, or why nothing is."""
        if self._source is None:
            return Told(EVENT, self._name, {"event": "audit", "why": f"not read: {self._why}"})
        return Told(EVENT, self._name, {"event": "audit", "source": self._source.name})

    def read(self, *, last: bool = False) -> list[Told]:
        """What the kernel said since of the target's processes. At the `last` it is waited for a
        little: the kernel says it from a thread of its own, also after the process has ended."""
        if self._source is None:
            return []
        if last:
            select.select([self.fd], [], [], SETTLE)
        lines = self._source.read()
        for line in lines:
            self._domain(landlock_domain(line))
        now = time.monotonic()
        found: list[Told] = []
        for line in lines:
            item = denial(line)
            if item is not None:
                found += self._denied(item, now)
        if self._source.lost != self._lost:
            self._losses.add(self._source.lost - self._lost, now)
            self._lost = self._source.lost
        return found

    def repeated(self, *, blind: bool = False, last: bool = False) -> list[Told]:
        """What was said again or only counted, once its window is over, or at the `last`.
        `blind`: nobody hears of new processes, so all are looked at now and then."""
        if blind and self._company is not None and self._source is not None:
            self._company.stale()
        now = math.inf if last else time.monotonic()
        found = [_told(item, unsure, more) for item, unsure, more in self._repeats.due(now)]
        counts = (
            ("records came faster than they were read, and are lost", self._losses),
            ("too many different denials at once", self._repeats.beyond),
            ("denials of Landlock that name no process", self._unplaced),
        )
        for why, tally in counts:
            times = tally.due(now)
            if times:
                detail = {"event": "audit", "why": why, "times": times}
                found.append(Told(EVENT, self._name, detail))
        return found

    def close(self) -> None:
        """Read no more."""
        if self._source is not None:
            self._source.close()

    def _denied(self, item: Denial, now: float) -> Iterator[Told]:
        pid = item.pid if item.pid is not None else self._domains.get(item.detail.get("domain", ""))
        unsure: str | None = ""
        if self._company is not None:
            if pid is None:
                self._unplaced.add(1, now)
                return
            unsure = self._company.judge(pid, item.time)
        if unsure is None:
            return
        if item.pid is None and pid is not None:
            unsure = unsure or DOMAIN
        if self._repeats.new(item, unsure, now):
            yield _told(item, unsure)

    def _domain(self, made: tuple[str, int] | None) -> None:
        if made is not None:
            if len(self._domains) >= MOST_DOMAINS:
                del self._domains[next(iter(self._domains))]
            self._domains[made[0]] = made[1]


def _told(item: Denial, unsure: str, times: int = 0) -> Told:
    _, subject, detail = item.entry()
    detail = {"event": "denial", "source": SOURCE, **detail}
    if unsure:
        detail["unsure"] = [unsure]
    if times:
        detail["times"] = times
    return Told(DENIAL, subject, detail)
