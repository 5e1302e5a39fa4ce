"""A saved result as a gate: what is open now and was closed then."""

from __future__ import annotations

from pathlib import Path

from ringfence.errors import InputError
from ringfence.probe.record import SCHEMA, ProbeReport
from ringfence.untrusted import Undecodable, decode_json, regular_file

MOST = 64 << 20
"""Bytes of a saved result."""


def read_report(path: Path) -> ProbeReport:
    """A result that --format json wrote. Raises InputError."""
    try:
        found = decode_json(regular_file(path, MOST), ProbeReport)
    except Undecodable as error:
        raise InputError(
            f"is no result of a probe: {error}", where=str(path),
            remedy="ringfence probe --format json -o writes one",
        ) from None  # fmt: skip
    if found.schema != SCHEMA:
        raise InputError(f"has the schema {found.schema!r}, not {SCHEMA!r}", where=str(path))
    return found


def opened_since(before: ProbeReport, now: ProbeReport) -> tuple[str, ...]:
    """A line for each attempt that is open now and was not then: closed, not there, or unknown."""
    then = {item.id: item for item in before.attempts}
    found = []
    for item in now.attempts:
        former = then.get(item.id)
        if item.seen == "open" and former is not None and former.seen != "open":
            by = f" by {former.stopped_by}" if former.stopped_by else ""
            found.append(f"opened since: {item.id} ({item.title}), {former.seen}{by} before")
    return tuple(found)
