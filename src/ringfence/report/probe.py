"""A probe's report: what disagrees with configuration first, then what is open, then the rest."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from ringfence.probe.record import Attempt, ProbeReport
from ringfence.report.commonmark import block, bold, table
from ringfence.report.look import Look
from ringfence.report.words import printable

CALLS = "system calls"
"""The group that is counted, not listed: there are hundreds of them."""
MOST_NAMED = 12


def terminal(report: ProbeReport, look: Look) -> str:
    """For people: a screen and what lies behind it."""
    lines = [_head(report), *_disagreements(report), *_opened(report), *_stopped(report)]
    lines += [f"  not joined: {note}" for note in report.notes]
    if report.stopped:
        total = sum(report.stopped) * 1000
        lines.append(f"  it stood still for {total:.1f} ms in {len(report.stopped)} stops")
    return "".join(f"{printable(line)[: look.width]}\n" for line in lines)


def _head(report: ProbeReport) -> str:
    target, counts = report.target, report.counts
    return (f"{target.program}[{target.pid}] ({target.kind} {target.name}, {target.stance}): "
            f"{counts['attempts']} attempts, {counts['open']} open, {counts['closed']} closed, "
            f"{counts['unsupported']} not there or not known, "
            f"in {report.seconds:.2f} s")  # fmt: skip


def _disagreements(report: ProbeReport) -> list[str]:
    by_id = {item.id: item for item in report.attempts}
    if not report.disagreements:
        return ["  configuration and probe say the same everywhere"]
    lines = ["Configuration and probe disagree:"]
    for name in report.disagreements:
        item = by_id[name]
        why = f", stopped by {item.stopped_by}" if item.stopped_by else ""
        lines.append(f"  {name}: expected {item.expected}, seen {item.seen}{why}  {item.detail}")
    return lines


def _opened(report: ProbeReport) -> list[str]:
    lines = ["Open:"]
    for group, items in _by_group(report, "open"):
        if group == CALLS:
            lines.append(f"  {group}: {len(items)}")
            continue
        lines.append(f"  {group}:")
        lines += [f"    {item.title}  {item.detail}  [{item.technique}]" for item in items]
    return lines


def _stopped(report: ProbeReport) -> list[str]:
    lines = ["Closed, by the layer that stopped it:"]
    shut = [item for item in report.attempts if item.seen == "closed"]
    layers = Counter(item.stopped_by or "unknown" for item in shut)
    for layer, count in layers.most_common():
        names = [item.id for item in shut if (item.stopped_by or "unknown") == layer]
        shown = ", ".join(names[:MOST_NAMED]) + (" ..." if len(names) > MOST_NAMED else "")
        lines.append(f"  {count:4} {layer}: {shown}")
    without = [item.id for item in shut if not item.control]
    if without:
        lines.append(f"  {len(without)} of these were closed where nothing confines, too: closed "
                     "by this host, not by the workload's fence")  # fmt: skip
    return lines


def _by_group(report: ProbeReport, seen: str) -> list[tuple[str, list[Attempt]]]:
    rows = [item for item in report.attempts if item.seen == seen]
    return [(group, list(items)) for group, items in groupby(rows, key=lambda item: item.group)]


def markdown(report: ProbeReport) -> str:
    """For a ticket or a pull request: one table, disagreements first."""
    first = set(report.disagreements)
    rows = [item for item in report.attempts if item.id in first]
    rows += [item for item in report.attempts if item.id not in first and item.group != CALLS]
    headings = ["attempt", "expected", "seen", "stopped by", "detail", "technique", "control"]
    cells = table(headings, [_cells(item, first) for item in rows])
    return "\n".join(["# Probe", "", block(_head(report)), "", *cells, ""])


def _cells(item: Attempt, first: set[str]) -> tuple[str, ...]:
    seen = bold(item.seen) if item.id in first else item.seen
    return (f"{item.id}: {item.title}", item.expected, seen, item.stopped_by, item.detail,
            item.technique, item.control)  # fmt: skip
