"""A saved result as a gate: what is open now and was closed then."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from ringfence.errors import InputError
from ringfence.probe.battery import PROBES
from ringfence.probe.record import SCHEMA, Attempt, ProbeReport
from ringfence.report.words import printable
from ringfence.untrusted import Undecodable, decode_json, regular_file

MOST = 64 << 20
"""Bytes of a saved result."""
REMEDY = "ringfence probe --format json -o writes one"
MOST_NAMED = 8
"""Ids in one line of what was not compared."""


class Comparison(msgspec.Struct, frozen=True):
    """A line for each attempt that has opened, and lines of what could not be compared."""

    opened: tuple[str, ...]
    left_out: tuple[str, ...]


def read_report(path: Path) -> ProbeReport:
    """A result that --format json wrote. Raises InputError for one that has nothing to compare
    with this probe, or that was cut or changed since."""
    try:
        found = decode_json(regular_file(path, MOST), ProbeReport)
    except Undecodable as error:
        raise InputError(
            f"is no result of a probe: {error}", where=str(path), remedy=REMEDY
        ) from None
    problem = _problem(found)
    if problem:
        raise InputError(problem, where=str(path), remedy=REMEDY)
    return found


def _problem(report: ProbeReport) -> str:
    """Why nothing should be believed of a saved result, or ''."""
    if report.schema != SCHEMA:
        return f"has the schema {report.schema!r}, not {SCHEMA!r}"
    named: set[str] = set()
    for item in report.attempts:
        if item.id in named:
            return f"has the attempt {item.id!r} twice"
        named.add(item.id)
    counted = report.counts.get("attempts")
    if counted != len(report.attempts):
        return f"holds {len(report.attempts)} attempts, where its counts say {counted}"
    if named.isdisjoint(probe.id for probe in PROBES):
        return "has no attempt that this probe makes"
    return ""


def compared(before: ProbeReport, now: ProbeReport) -> Comparison:
    """What is open now and was not then (closed, not there, or unknown), and which attempts only
    one of both results has: another version's, or another kernel's calls."""
    then = {item.id: item for item in before.attempts}
    opened = []
    for item in now.attempts:
        former = then.get(item.id)
        if item.seen == "open" and former is not None and former.seen != "open":
            by = f" by {printable(former.stopped_by)}" if former.stopped_by else ""
            opened.append(f"opened since: {item.id} ({item.title}), {former.seen}{by} before")
    made = {item.id for item in now.attempts}
    new = [item for item in now.attempts if item.id not in then]
    gone = [item for item in before.attempts if item.id not in made]
    lines = (_left_out("not in the baseline", new, "now"),
             _left_out("in the baseline alone", gone, "then"))  # fmt: skip
    return Comparison(tuple(opened), tuple(line for line in lines if line))


def _left_out(place: str, attempts: Iterable[Attempt], when: str) -> str:
    """What only one result has, in a line, what was open first; '' where there is nothing."""
    rows = sorted(attempts, key=lambda item: item.seen != "open")
    if not rows:
        return ""
    opened = sum(item.seen == "open" for item in rows)
    more = f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
    names = printable(", ".join(item.id for item in rows[:MOST_NAMED]))
    return f"not compared, {place}: {len(rows)} ({opened} open {when}): {names}{more}"
