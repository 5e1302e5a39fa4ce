"""Records to systemd's journal, by its native protocol.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL: one datagram of `FIELD=value` lines; a value with line
feeds has its length before it. Larger messages would go by memfd: a line of a ledger is at most
64 KiB, and a datagram here may have over 200 KiB (net.core.wmem_default).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from ringfence.watch.ledger.record import Record, encode
from ringfence.watch.ledger.sinks.sink import TIMEOUT, severity, summary

SOCKET = Path("/run/systemd/journal/socket")


class Journald:
    """The journal of this machine."""

    def __init__(self, path: Path = SOCKET) -> None:
        """`path` is journald's socket."""
        self.name = "journald" if path == SOCKET else f"journald:{path}"
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(TIMEOUT)

    def send(self, records: Sequence[Record]) -> None:
        """One datagram each."""
        for record in records:
            self._socket.sendto(datagram(record), str(self._path))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def datagram(record: Record) -> bytes:
    """The bytes of one record: a message for people, its fields, and the whole line as JSON."""
    fields = {
        "MESSAGE": summary(record),
        "PRIORITY": str(severity(record)),
        "SYSLOG_IDENTIFIER": "ringfence",
        "RINGFENCE_INDEX": str(record.index),
        "RINGFENCE_KIND": record.kind,
        "RINGFENCE_SUBJECT": record.subject,
        "RINGFENCE_TIME": record.time,
        "RINGFENCE_RECORD": encode(record).decode(),
    }
    return b"".join(_field(name, value.encode()) for name, value in fields.items())


def _field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
