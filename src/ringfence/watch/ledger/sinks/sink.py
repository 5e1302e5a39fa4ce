"""What a sink is, and what all of them say alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ringfence.watch.ledger.record import Kind, Record

TIMEOUT = 2.0
"""Seconds until sending counts as failed."""
CRITICAL, ERROR, WARNING, NOTICE, INFO = 2, 3, 4, 5, 6
"""Severities of syslog (RFC 5424, section 6.2.1), which journald has as PRIORITY."""
_CHANGES = {"critical": CRITICAL, "high": ERROR, "medium": WARNING, "low": NOTICE}
"""The severity of what changed, in words (docs/watch.md)."""
_BLIND = frozenset({"overflow", "unmarked", "root", "mounts"})
"""Events after which something may go by untold."""
_UNENFORCED = frozenset({"off", "left", "gone", "lost", "unmarked", "dropped", "unopened"})
"""Verdicts on enforcement by which code may run, or be denied, that should not."""


class Sink(Protocol):
    """One place that records are sent to."""

    name: str
    """As the ledger calls it: `journald`, `syslog:127.0.0.1:514` ..."""

    def send(self, records: Sequence[Record]) -> None:
        """Send all of them, in order. Raises OSError when one could not be handed over."""
        ...

    def close(self) -> None:
        """Let go of sockets."""
        ...


def severity(record: Record) -> int:
    """How urgent a record is, as a severity of syslog: a change by what changed, anything else by
    whether something was refused, or may go by unseen."""
    event, verdict = _word(record, "event"), _word(record, "verdict")
    changed = _CHANGES.get(_word(record, "severity"))
    if changed is not None:
        return changed
    if record.kind == Kind.DENIAL or record.subject in ("cut", "refused", "clock"):
        return WARNING
    if event in _BLIND or verdict in ("failed", "unseen"):
        return WARNING
    if event == "enforce" and verdict in _UNENFORCED:
        return WARNING
    return NOTICE if record.kind in (Kind.EVENT, Kind.POLICY) else INFO


def summary(record: Record) -> str:
    """The record as one short line that a person reads; control characters are replaced."""
    said = (_word(record, name) for name in ("event", "severity", "verdict"))
    words = " ".join(word for word in said if word and word != record.kind)
    text = f"{record.kind} {record.subject}{f': {words}' if words else ''}"
    return "".join(char if char.isprintable() else "?" for char in text)


def _word(record: Record, name: str) -> str:
    """A field of the detail, '' where it is no text: any JSON may stand there."""
    found = record.detail.get(name)
    return found if isinstance(found, str) else ""
