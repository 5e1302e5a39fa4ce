"""Records as OpenTelemetry logs: OTLP/HTTP with JSON, to a collector on loopback.

https://opentelemetry.io/docs/specs/otlp/#otlphttp; field names are those of
opentelemetry/proto/logs/v1/logs.proto in protobuf's JSON mapping.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ringfence import __version__
from ringfence.watch.ledger.clock import parsed
from ringfence.watch.ledger.record import Record
from ringfence.watch.ledger.sinks.sink import (
    CRITICAL,
    ERROR,
    INFO,
    NOTICE,
    TIMEOUT,
    WARNING,
    severity,
    summary,
)

_SEVERITY = {
    CRITICAL: (18, "ERROR2"), ERROR: (17, "ERROR"), WARNING: (13, "WARN"), NOTICE: (10, "INFO2"),
    INFO: (9, "INFO"),
}  # fmt: skip
"""Syslog's severity -> SeverityNumber and text (the log data model's appendix B)."""
MOST_ANSWER = 1 << 16


class Otlp:
    """A collector of this machine."""

    def __init__(self, url: str) -> None:
        """`url` is checked by choose.py: http, loopback; its path is usually /v1/logs."""
        self.name = f"otlp:{url}"
        parts = urlsplit(url)
        self._path = parts.path or "/v1/logs"
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port or 4318, timeout=TIMEOUT
        )

    def send(self, records: Sequence[Record]) -> None:
        """One request for all. Raises OSError also for an answer that is no success."""
        try:
            self._connection.request("POST", self._path, msgspec.json.encode(export(records)),
                                     {"Content-Type": "application/json"})  # fmt: skip
            answer = self._connection.getresponse()
            answer.read(MOST_ANSWER)
        except http.client.HTTPException as error:
            self._connection.close()
            raise OSError(f"no HTTP answer: {type(error).__name__}") from None
        except OSError:
            self._connection.close()
            raise
        if answer.status != 200:
            self._connection.close()
            raise OSError(f"answered with {answer.status}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def export(records: Sequence[Record]) -> dict[str, Any]:
    """An ExportLogsServiceRequest."""
    return {
        "resourceLogs": [{
            "resource": {"attributes": [_attribute("service.name", "ringfence")]},
            "scopeLogs": [{
                "scope": {"name": "ringfence.ledger", "version": __version__},
                "logRecords": [_log(record) for record in records],
            }],
        }]
    }  # fmt: skip


def _log(record: Record) -> dict[str, Any]:
    number, text = _SEVERITY[severity(record)]
    nanoseconds = str(_nanoseconds(record.time))
    return {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": number,
        "severityText": text,
        "body": {"stringValue": summary(record)},
        "attributes": [
            _attribute("ringfence.index", record.index),
            _attribute("ringfence.kind", record.kind),
            _attribute("ringfence.subject", record.subject),
            _attribute("ringfence.prev", record.prev),
            _attribute("ringfence.detail", record.detail),
        ],
    }


def _nanoseconds(text: str) -> int:
    """A record's time in nanoseconds since 1970; 0, which is unknown (logs.proto), for what is no
    time or does not fit into its 64 bits: any text may stand in a ledger that is not verified."""
    try:
        found = parsed(text) * 1000
    except (ValueError, OverflowError):
        return 0
    return found if 0 <= found < 1 << 64 else 0


def _attribute(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": _any(value)}


def _any(value: Any) -> dict[str, Any]:
    """An AnyValue (opentelemetry/proto/common/v1/common.proto)."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [_attribute(key, item) for key, item in value.items()]}}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any(item) for item in value]}}
    return {"stringValue": str(value)}
