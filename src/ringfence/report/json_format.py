"""JSON, in the names of docs/measure.md; the schema is generated from the records."""

from __future__ import annotations

from typing import Any

import msgspec

from ringfence.model.measurement import Comparison, Measurement
from ringfence.report.look import Look


def measurements(results: tuple[Measurement, ...], look: Look) -> str:
    """One measurement as an object, several as a list."""
    return _text(results[0] if len(results) == 1 else results)


def comparison(result: Comparison, look: Look) -> str:
    """A comparison as an object."""
    return _text(result)


def _text(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def schema(kind: type[Measurement] | type[Comparison]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a result."""
    made = msgspec.json.schema(kind)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
