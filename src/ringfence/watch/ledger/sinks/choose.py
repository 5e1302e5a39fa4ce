"""From the words of a user to a sink."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

from ringfence.errors import UsageError
from ringfence.watch.ledger.sinks.journald import SOCKET, Journald
from ringfence.watch.ledger.sinks.otlp import Otlp
from ringfence.watch.ledger.sinks.sink import Sink
from ringfence.watch.ledger.sinks.syslog import LOG, Syslog

KINDS = ("journald", "syslog", "otlp")
_SHOWN = 200
"""Characters of a refused sink that are repeated."""
FORMS = "journald[:SOCKET], syslog[:SOCKET|:ADDRESS:PORT], otlp:http://ADDRESS:PORT/v1/logs"


def choose(text: str) -> Sink:
    """The sink that `text` names, in one of FORMS. Nothing is sent off this machine: a forwarder
    on loopback does that. Raises UsageError."""
    kind, where = _parsed(text)
    if isinstance(where, str):
        return Otlp(where)
    if kind == "syslog":
        return Syslog(where or LOG)
    return Journald(where if isinstance(where, Path) else SOCKET)


def address(text: str) -> str:
    """The address of loopback that a sink sends to, without its scope, '' where it is a Unix
    socket. Raises UsageError."""
    _, where = _parsed(text)
    if isinstance(where, str):
        return (urlsplit(where).hostname or "").partition("%")[0]
    return where[0].partition("%")[0] if isinstance(where, tuple) else ""


def _parsed(text: str) -> tuple[str, Path | tuple[str, int] | str | None]:
    """A sink's kind, and its socket's path, its address and port, its URL, or None for the usual
    place."""
    kind, _, where = text.partition(":")
    if kind == "journald":
        return kind, Path(where) if where else None
    if kind == "syslog" and (not where or where.startswith("/")):
        return kind, Path(where) if where else None
    if kind == "syslog":
        place, _, port = where.rpartition(":")
        return kind, (_loopback(place.strip("[]"), text), _port(port, text))
    if kind == "otlp":
        return kind, _url(where, text)
    raise UsageError(f"{_shown(text)} is no sink", remedy=f"one of {FORMS}")


def _url(url: str, text: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise UsageError(f"{_shown(text)} has no URL", remedy=f"one of {FORMS}") from None
    # A sink's name stands in the ledger, which keeps it for ever: no password may be in it.
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise UsageError(
            f"{_shown(text)} has a user, a query or a fragment, which are not sent",
            remedy="leave them out",
        )
    if parts.scheme != "http" or not port or not all("!" <= char <= "~" for char in url):
        raise UsageError(f"{_shown(text)} has no http URL with a port", remedy=f"one of {FORMS}")
    _loopback(host, text)
    return url


def _loopback(address: str, text: str) -> str:
    try:
        if ipaddress.ip_address(address).is_loopback:
            return address
    except ValueError:
        pass
    raise UsageError(
        f"{_shown(text)} is not on loopback", remedy="use a forwarder at 127.0.0.1 or ::1"
    )


def _port(text: str, whole: str) -> int:
    # Python refuses to read a number of thousands of digits.
    if not text.isascii() or not text.isdigit() or len(text) > 5 or not 0 < int(text) < 65536:
        raise UsageError(f"{_shown(whole)} has no port", remedy=f"one of {FORMS}")
    return int(text)


def _shown(text: str) -> str:
    """A refused sink for a message: without what may be a user's name, password or token."""
    before, user, place = text.rpartition("@")
    if user:
        kind = before.partition(":")[0]
        place = f"{kind}:...@{place}" if kind in KINDS else f"...@{place}"
    clean = re.split("[?#]", place, maxsplit=1)[0]
    return repr(clean if len(clean) <= _SHOWN else clean[:_SHOWN] + "...")
