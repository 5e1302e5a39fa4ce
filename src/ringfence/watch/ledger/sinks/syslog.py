"""Records as syslog messages of RFC 5424, to a Unix datagram socket or to UDP on loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from ringfence.watch.ledger.record import Record, encode
from ringfence.watch.ledger.sinks.sink import TIMEOUT, severity

LOG = Path("/dev/log")
FACILITY = 13
"""Log audit (RFC 5424, section 6.2.1)."""
MOST_BYTES = 60_000
"""A UDP datagram holds 65,507; longer records are cut, and their index leads to the ledger."""


class Syslog:
    """A syslog daemon of this machine."""

    def __init__(self, where: Path | tuple[str, int] = LOG) -> None:
        """`where` is a socket's path, or an address of loopback with a port."""
        self.name = (
            f"syslog:{where}" if isinstance(where, Path) else f"syslog:{where[0]}:{where[1]}"
        )
        self._where = where
        self._host = socket.gethostname()
        family = socket.AF_UNIX if isinstance(where, Path) else _family(where[0])
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.settimeout(TIMEOUT)

    def send(self, records: Sequence[Record]) -> None:
        """One datagram each. Connected, so that a closed port is reported at the next one."""
        self._socket.connect(str(self._where) if isinstance(self._where, Path) else self._where)
        for record in records:
            self._socket.send(message(record, self._host, os.getpid()))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def message(record: Record, host: str, pid: int) -> bytes:
    """One message: header and, in UTF-8, the whole line, which has all fields. No structured data:
    names of our own would need an enterprise number (section 6.3.2), and we have none."""
    head = (
        f"<{FACILITY * 8 + severity(record)}>1 {record.time} {_name(host, 255)} ringfence {pid} "
        f"{_name(record.kind, 32)} - "
    )
    return head.encode() + b"\xef\xbb\xbf" + encode(record)[:MOST_BYTES]


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _name(text: str, most: int) -> str:
    """PRINTUSASCII of a header field, or the nil value."""
    return "".join(char for char in text if "!" <= char <= "~")[:most] or "-"
