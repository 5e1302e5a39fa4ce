"""The JSON Schema of everything that Ringfence writes as JSON, made from the records themselves.

One more result is one more row here, and its file in docs/schema.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import msgspec

RESULTS = {
    "measurement": ("ringfence.model.measurement", "Measurement"),
    "comparison": ("ringfence.model.measurement", "Comparison"),
    "hardening": ("ringfence.harden.record", "Report"),
    "probe": ("ringfence.probe.record", "ProbeReport"),
    "examination": ("ringfence.guest.result", "Examination"),
    "check": ("ringfence.watch.baseline.result", "Report"),
    "learned": ("ringfence.watch.live.allowed", "LearnedFile"),
    "ledger": ("ringfence.watch.ledger.record", "Line"),
    "verification": ("ringfence.watch.ledger.verify", "Verdict"),
    "proof": ("ringfence.watch.ledger.proofs", "Proof"),
}
"""Result -> the record (or union of records) that it is, imported when it is asked for."""


def schema(result: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a key of `RESULTS`."""
    module, name = RESULTS[result]
    made = _unindented(msgspec.json.schema(getattr(importlib.import_module(module), name)))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _unindented(node: Any) -> Any:
    """Descriptions, which are docstrings, as every version of Python has them: until 3.12 they
    keep their source's indentation."""
    if isinstance(node, list):
        return [_unindented(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: inspect.cleandoc(value)
        if key == "description" and isinstance(value, str)
        else _unindented(value)
        for key, value in node.items()
    }
