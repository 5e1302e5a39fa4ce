"""What a sink is, and what all of them say alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ringfence.watch.ledger.record import Kind, Record

TIMEOUT = 2.0
"""Seconds until sending counts as failed."""
WARNING, NOTICE, INFO = 4, 5, 6
"""Severities of syslog (RFC 5424, section 6.2.1), which journald has as PRIORITY."""


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
    """How urgent a record is, as a severity of syslog."""
    if record.kind == Kind.DENIAL or record.subject in ("cut", "refused", "clock"):
        return WARNING
    return NOTICE if record.kind in (Kind.EVENT, Kind.POLICY) else INFO


def summary(record: Record) -> str:
    """The record as one short line that a person reads; control characters are replaced."""
    text = f"{record.kind} {record.subject}"
    return "".join(char if char.isprintable() else "?" for char in text)
