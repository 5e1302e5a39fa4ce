"""Records by time and kind, and how they look on a terminal. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ringfence.errors import UsageError
from ringfence.watch.ledger.clock import shown
from ringfence.watch.ledger.record import NotALine, Record, decode

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = 9
"""Digits of a span, at most: 30 years in seconds."""
_UNSHOWN = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""The control characters that JSON need not escape, and those of bidirectional text."""


class Wanted(msgspec.Struct, frozen=True):
    """`since`: as Record.time, or empty; `kinds`: empty for all."""

    since: str = ""
    kinds: frozenset[str] = frozenset()

    def __call__(self, record: Record) -> bool:
        """Whether the record is wanted."""
        return record.time >= self.since and (not self.kinds or record.kind in self.kinds)


def records(lines: Iterable[bytes], wanted: Wanted) -> Iterator[Record]:
    """The wanted records among lines; what is no line is left to `verify`."""
    for data in lines:
        try:
            line = decode(data.removesuffix(b"\n"))
        except NotALine:
            continue
        if isinstance(line, Record) and wanted(line):
            yield line


def moment(text: str, now: int) -> str:
    """A user's time as Record.time has it: ISO 8601 (UTC without a zone, as the log prints it), or
    a span before `now` (microseconds since 1970) like 90s, 15m, 2h, 7d. Raises UsageError."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isascii() and number.isdigit() and len(number) <= _SPAN:
        return shown(max(now - int(number) * _UNITS[unit] * 1_000_000, 0))
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is no time", remedy="as in 2026-11-24T20:00 or 15m") from None
    return shown((found - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))


def terminal(record: Record) -> str:
    """One printable line: names in it come from whoever could make files."""
    detail = " ".join(f"{key}={_value(value)}" for key, value in record.detail.items())
    text = f"{record.index:>8} {record.time} {record.kind:<7} {record.subject}  {detail}".rstrip()
    return one_line(text)


def one_line(text: str) -> str:
    """`text` without control characters, line breaks and what turns the direction of text."""
    return "".join(char if char.isprintable() else "?" for char in text)


def escaped(document: str) -> str:
    """JSON in which what would move a terminal's cursor, or turn its text, is written as `\\u`: in
    JSON such characters stand in strings only."""
    return _UNSHOWN.sub(lambda char: f"\\u{ord(char[0]):04x}", document)


def _value(value: Any) -> str:
    if isinstance(value, str) and value and not any(char in ' "=\\' for char in value):
        return value
    return msgspec.json.encode(value).decode()
