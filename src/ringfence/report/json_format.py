"""JSON, in the names of docs/measure.md; schemas.py has the schema."""

from __future__ import annotations

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
