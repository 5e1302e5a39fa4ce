"""A watch check as SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/), for CI."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from ringfence import __version__
from ringfence.report.words import printable
from ringfence.watch.baseline.result import Item, Report

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
RULES = {
    "added": "A file that the baseline does not have",
    "removed": "A file of the baseline that is not there",
    "changed": "A file that is not as the baseline has it",
}
"""What differs -> the rule's text; its id is `watch/` and the word."""
_MESSAGE = str.maketrans({"\\": r"\\", "[": r"\[", "]": r"\]", "{": "{{", "}": "}}"})
"""What a message gives another meaning, and how it is written for itself."""


def sarif(report: Report) -> str:
    """One run with one result for each path that differs."""
    driver = {
        "name": "ringfence",
        "version": __version__,
        "rules": [{"id": f"watch/{word}", "shortDescription": {"text": text}}
                  for word, text in RULES.items()],
    }  # fmt: skip
    results = [
        _result(word, item)
        for word, items in (
            ("added", report.added), ("removed", report.removed), ("changed", report.changed)
        )
        for item in items
    ]  # fmt: skip
    run = {
        "tool": {"driver": driver},
        "results": results,
        "properties": {
            "target": report.target.name, "mode": report.mode, "sealed_by": report.sealed_by,
            "verified": report.verified,
        },
    }  # fmt: skip
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2) + "\n"


def _result(word: str, item: Item) -> dict[str, Any]:
    parts = [f"{name}: {before} -> {after}" for name, (before, after) in item.attributes.items()]
    detail = f": {'; '.join(parts)}" if word == "changed" else ""
    # Relative to the target's root, as SARIF has it for what lies in a tree; a name's own bytes,
    # so that no two files share it (RFC 3986, 2.1).
    uri = quote(item.name.lstrip(b"/") or b".")
    return {
        "ruleId": f"watch/{word}",
        "level": _LEVELS[item.severity],
        "message": {"text": _plain(f"{item.what} {word}{detail}")},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}}}],
        "properties": {"severity": item.severity, "attributes": item.attributes},
    }


def _plain(text: str) -> str:
    """`text` as a plain text message without links and placeholders of its own (SARIF 2.1.0,
    3.11.5, 3.11.6): what changed was called by whoever changed it."""
    return printable(text).translate(_MESSAGE)
