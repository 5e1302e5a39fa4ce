"""What is told of what happened: records as the ledger keeps them. Pure."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from ringfence.watch.baseline.result import Item
from ringfence.watch.live.happening import Happening
from ringfence.watch.live.judge import Judgement
from ringfence.watch.live.who import Who

EVENT, DENIAL, POLICY = "event", "denial", "policy"
MOST_DETAIL = 48 << 10


class Told(msgspec.Struct, frozen=True):
    """A record of the ledger: its kind, subject (a path, or the target's name) and detail.

    `detail["event"]` is change, found, denial, learned, overflow, rescan, full-check, mounts,
    start or stop.
    """

    kind: str
    subject: str
    detail: dict[str, Any]


def change(happening: Happening, judgement: Judgement) -> Told:
    """A change that an event told of."""
    detail: dict[str, Any] = {"event": "change", "did": list(happening.did)}
    if happening.other is not None:
        detail["other"] = _path(happening.other)
    detail |= _judged(judgement)
    if happening.who is not None:
        detail["who"] = who(happening.who)
    return Told(EVENT, _path(happening.path), _bounded(detail))


def finding(verdict: str, item: Item, check: str) -> Told:
    """What a full check found that no event had told of; `check` says which one it was."""
    detail = {"event": "found", "by": check, "verdict": verdict, **_item(item)}
    if item.path_bytes is not None:
        detail["path_bytes"] = item.path_bytes
    return Told(EVENT, item.path, _bounded(detail))


def denial(path: bytes, why: str, how: str, asked: Who, *, gone: bool = False) -> Told:
    """Code that was not let run; `gone`: the decider was not there to look at it."""
    detail: dict[str, Any] = {"event": "denial", "why": why, "how": how, "who": who(asked)}
    if gone:
        detail["decider_gone"] = True
    return Told(DENIAL, os.fsdecode(path), detail)


def who(found: Who) -> dict[str, Any]:
    """A process, with what is known of it."""
    row: dict[str, Any] = msgspec.to_builtins(found)
    return row


def _judged(judgement: Judgement) -> dict[str, Any]:
    found: dict[str, Any] = {"verdict": judgement.verdict.value}
    if judgement.item is not None:
        found |= _item(judgement.item)
    if judgement.why:
        found["why"] = judgement.why
    return found


def _item(item: Item) -> dict[str, Any]:
    return {
        "severity": item.severity,
        "what": item.what,
        "attributes": {name: list(pair) for name, pair in item.attributes.items()},
    }


def _bounded(detail: dict[str, Any]) -> dict[str, Any]:
    """Attributes are left out where a record would be longer than a ledger takes."""
    if len(repr(detail)) > MOST_DETAIL:
        detail = {**detail, "attributes": {}, "left_out": "attributes: too long"}
    return detail


def _path(path: bytes) -> str:
    return os.fsdecode(b"/" + path)
