"""JSON, in the names of docs/measure.md; schemas.py has the schema."""

from __future__ import annotations

import re

import msgspec

from ringfence.model.measurement import Comparison, Measurement
from ringfence.report.look import Look


def measurements(results: tuple[Measurement, ...], look: Look) -> str:
    """One measurement as an object, several as a list."""
    return text(results[0] if len(results) == 1 else results)


def comparison(result: Comparison, look: Look) -> str:
    """A comparison as an object."""
    return text(result)


def encoded(value: object) -> bytes:
    """`value` as JSON. A file's name need not be UTF-8, JSON must be: its other bytes are written
    as `\\xff`."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_readable(msgspec.to_builtins(value)))


_BYTE = re.compile("[\udc80-\udcff]")
"""A byte that was no UTF-8, as Python's `surrogateescape` keeps it."""


def _readable(value: object) -> object:
    """`value`, of dicts, lists and plain values, with every text fit for UTF-8."""
    if isinstance(value, str):
        text = _BYTE.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", value)
        return text.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_readable(key): _readable(item) for key, item in value.items()}
    return [_readable(item) for item in value] if isinstance(value, (list, tuple)) else value


def text(value: object) -> str:
    """`value` as JSON to read: `encoded`, a field a line."""
    return msgspec.json.format(encoded(value), indent=2).decode() + "\n"
