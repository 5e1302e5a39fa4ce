"""A saved result as a gate: what is open now and was closed then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from ringfence.errors import InputError
from ringfence.probe.battery import PROBES
from ringfence.probe.definition import NOT_KNOWN
from ringfence.probe.probing import INJECT
from ringfence.probe.record import SCHEMA, Attempt, ProbeReport
from ringfence.report.words import printable
from ringfence.untrusted import Undecodable, decode_json, regular_file

MOST = 64 << 20
"""Bytes of a saved result."""
REMEDY = "ringfence probe --format json -o writes one"
MOST_NAMED = 8
"""Ids in one line of what was not compared."""


NEW_ONE = "save a new one if that is how it should be"


class Comparison(msgspec.Struct, frozen=True):
    """A line for each attempt that has opened, and one for those of which the baseline does not
    say that they were not open before; lines of what else could not be compared."""

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


def check_stance(before: ProbeReport, path: Path, stance: str) -> None:
    """Raises InputError for a result that was made standing elsewhere: what only one of both sees
    would have opened, or be closed, for that alone."""
    found = before.target.stance
    if found == stance:
        return
    with_it = "with" if stance == INJECT else "without"
    raise InputError(
        f"was made by {printable(found)}, and this probe stands there by {stance}",
        where=str(path), remedy=f"save one {with_it} --inject",
    )  # fmt: skip


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
    """What is open now and was not then (closed, not there, or unknown), or is not in the baseline:
    of another version, a newer kernel's call, or cut out. What only one result has otherwise, is
    not known any more, or belongs to another program is told."""
    then = {item.id: item for item in before.attempts}
    opened = []
    for item in now.attempts:
        former = then.get(item.id)
        if item.seen == "open" and former is not None and former.seen != "open":
            by = f" by {printable(former.stopped_by)}" if former.stopped_by else ""
            opened.append(f"opened since: {item.id} ({item.title}), {former.seen}{by} before")
    new = [item for item in now.attempts if item.id not in then]
    unvouched = [item for item in new if item.seen == "open"]
    if unvouched:
        opened.append(f"open, and not in the baseline: {_named(unvouched)}; {NEW_ONE}")
    return Comparison(tuple(opened), tuple(_left_out(before, now, new)))


def _left_out(before: ProbeReport, now: ProbeReport, new: Iterable[Attempt]) -> Iterator[str]:
    """What could not be compared, or should not have been, in a line each."""
    if before.target.program != now.target.program:
        names = printable(f"{before.target.program}, not {now.target.program}")
        yield f"the baseline is another program's: {names}"
    made = {item.id: item for item in now.attempts}
    shut = [item for item in new if item.seen != "open"]
    if shut:
        yield f"not compared, not in the baseline: {_named(shut)}"
    gone = sorted((item for item in before.attempts if item.id not in made),
                  key=lambda item: item.seen != "open")  # fmt: skip
    if gone:
        opened = sum(item.seen == "open" for item in gone)
        yield f"not compared, in the baseline alone: {_named(gone, f' ({opened} open then)')}"
    lost = [item for item in before.attempts if item.seen == "closed" and item.id in made
            and made[item.id].detail.startswith(NOT_KNOWN)]  # fmt: skip
    if lost:
        yield f"not compared, closed then and not known now: {_named(lost)}"


def _named(rows: Sequence[Attempt], note: str = "") -> str:
    """Their number, and the first of them."""
    more = f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
    names = printable(", ".join(item.id for item in rows[:MOST_NAMED]))
    return f"{len(rows)}{note}: {names}{more}"
