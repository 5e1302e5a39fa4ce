"""A watch check for people: what weighs most first, each attribute before and after."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from ringfence.report.look import Look
from ringfence.report.shell import shell_word
from ringfence.report.words import printable
from ringfence.watch.baseline.result import Item, Report, Value

SHOWN = 500
"""Paths listed; the JSON has all of them."""
_RANK = {"critical": 0, "high": 1, "medium": 2, "low": 3}
_COLOUR = {"critical": "\x1b[1;31m", "high": "\x1b[31m", "medium": "\x1b[33m", "low": ""}
_END = "\x1b[0m"


def terminal(report: Report, look: Look) -> str:
    """The whole report as lines of text."""
    lines = [_headline(report), *_about(report)]
    rows = [("added", item) for item in report.added]
    rows += [("removed", item) for item in report.removed]
    rows += [("changed", item) for item in report.changed]
    rows.sort(key=lambda row: (_RANK[row[1].severity], row[1].path))
    for word, item in rows[:SHOWN]:
        lines += _item(word, item, look)
    if len(rows) > SHOWN:
        lines.append(f"and {len(rows) - SHOWN} more: see --format json")
    for unseen in report.unseen[:20]:
        lines.append(f"not seen: {_path(unseen.name)}: {printable(unseen.why)}")
    if len(report.unseen) > 20:
        lines.append(f"not seen: {len(report.unseen) - 20} more")
    return "\n".join(lines) + "\n"


def _headline(report: Report) -> str:
    name = f"{printable(report.target.name)} ({report.target.kind})"
    if report.same:
        return f"{name}: unchanged"
    return (
        f"{name}: {len(report.added)} added, {len(report.removed)} removed, "
        f"{len(report.changed)} changed"
    )


def _about(report: Report) -> list[str]:
    done = report.checked
    sealed = datetime.fromtimestamp(report.sealed_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lines = [f"  baseline of {sealed}, verified, sealed by {report.sealed_by}"]
    read = f"{done.files_read} files read, {done.bytes_read / 1e6:.0f} MB"
    if report.mode == "quick":
        lines.append(
            f"  QUICK check of {done.entries} entries: {read}; {done.taken_by_status} taken as "
            "unchanged by their status, their content was not read"
        )
    else:
        lines.append(f"  full check of {done.entries} entries: {read}")
    if report.not_compared:
        lines.append(f"  not to be compared here: {', '.join(report.not_compared)}")
    if report.updated:
        lines.append("  the baseline was sealed anew with what is listed here")
    return lines + [f"  {printable(note)}" for note in report.notes]


def _item(word: str, item: Item, look: Look) -> list[str]:
    start = _COLOUR[item.severity] if look.colour else ""
    end = _END if start else ""
    lines = [f"{start}{item.severity:<8} {word:<7} {_path(item.name)}{end} ({item.what})"]
    if word != "changed":
        return lines
    for name, (before, after) in item.attributes.items():
        lines.append(f"{'':17}{printable(name)}: {_value(before)} -> {_value(after)}")
    return lines


def _path(name: bytes) -> str:
    """As a shell takes it back: no two files look alike."""
    return shell_word(os.fsdecode(name))


def _value(value: Value) -> str:
    return "nothing" if value is None else printable(str(value))
