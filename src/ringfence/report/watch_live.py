"""What a running watch tells, for people: one line an event. Pure."""

from __future__ import annotations

from typing import Any

from ringfence.report.words import printable
from ringfence.watch.live.told import Told

MOST_COMMAND = 120


def line(told: Told, when: str) -> str:
    """One line for people."""
    detail = told.detail
    event = str(detail.get("event", told.kind))
    words = [when, f"{detail.get('severity', '-'):<8}", f"{event:<8}"]
    verdict = str(detail.get("verdict", ""))
    if verdict:
        words.append(f"{verdict:<9}")
    words.append(told.subject)
    words += [f"({', '.join(detail[name])})" for name in ("did",) if detail.get(name)]
    words += [f"{name}: {detail[name]}" for name in _SAID if detail.get(name) not in (None, "")]
    words += _audited(detail)
    attributes = detail.get("attributes")
    if attributes and verdict == "changed":
        words.append(f"[{', '.join(attributes)}]")
    if "who" in detail:
        words.append(f"by {_who(detail['who'])}")
    return printable(" ".join(words))


_SAID = (
    "other", "by", "action", "call", "operation", "rights", "name", "path", "blockers", "why",
    "how", "reason", "mode", "found", "records", "marks", "exit", "source", "times",
)  # fmt: skip


def _audited(detail: dict[str, Any]) -> list[str]:
    """Which process a denial of the kernel's audit is about."""
    if "audit" not in detail:
        return []
    words = [f"process {detail.get('pid') or 'unknown'}"]
    return [*words, *(f"(unsure: {item})" for item in detail.get("unsure", ()))]


def _who(found: dict[str, Any]) -> str:
    name = found.get("user") or found.get("uid")
    text = f"{found.get('executable') or 'a process'}[{found['pid']}]"
    if found.get("name"):
        text += f" that calls itself {found['name']!r}"
    if name not in (None, ""):
        text += f" of {name}"
    if found.get("fsuid") not in (None, found.get("uid")):
        text += f", as uid {found['fsuid']}"
    if found.get("container"):
        text += f" in {found['container']}"
    if found.get("gone"):
        text += ", ended since"
    if found.get("unsure"):
        text += f", unsure: {' and '.join(item.partition(':')[0] for item in found['unsure'])}"
    command = " ".join(found.get("command", ()))
    return f"{text}: {command[:MOST_COMMAND]}" if command else text
