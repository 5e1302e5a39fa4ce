"""What is told of what happened: records as the ledger keeps them. Pure."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import msgspec

from ringfence.watch.baseline.result import Item
from ringfence.watch.ledger.batch import MOST_WISH, size_of
from ringfence.watch.ledger.record import raw_bytes
from ringfence.watch.live.happening import Happening
from ringfence.watch.live.judge import Judgement
from ringfence.watch.live.who import Who

EVENT, DENIAL, POLICY = "event", "denial", "policy"
CUTS = ((8192, 64), (2048, 64), (512, 32), (64, 16))
"""Characters of a text and values of a list or table that are kept in a record that would be too
long: the first that suffice. No table that is told has more than 16 names of its own."""
DEEPEST = 8
"""Lists and tables in one another that are kept there."""


class Told(msgspec.Struct, frozen=True):
    """A record of the ledger: its kind, subject (a path, or the target's name) and detail.

    `detail["event"]` is change, found, unmarked, denial, learned, overflow, rescan, full-check,
    mounts, root, start or stop.
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
    return Told(EVENT, _path(happening.path), detail)


def finding(verdict: str, item: Item, check: str) -> Told:
    """What a full check found that no event had told of; `check` says which one it was."""
    detail = {"event": "found", "by": check, "verdict": verdict, **_item(item)}
    if item.path_bytes is not None:
        detail["path_bytes"] = item.path_bytes
    return Told(EVENT, item.path, detail)


def denial(path: bytes, why: str, how: str, asked: Who, *, gone: bool = False) -> Told:
    """Code that was not let run; `gone`: the decider was not there to look at it."""
    detail: dict[str, Any] = {"event": "denial", "why": why, "how": how, "who": who(asked)}
    if gone:
        detail["decider_gone"] = True
    return Told(DENIAL, os.fsdecode(path), detail)


def unmarked(path: bytes, why: str) -> Told:
    """A folder whose changes cannot be told of."""
    return Told(EVENT, _path(path), {"event": "unmarked", "why": why})


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


def bounded(told: Told) -> Told:
    """The same, cut where a ledger would not take it whatever its fields hold.

    A long text loses its middle and has its length and digest there, so that two of them stay
    apart; `left_out` says that this was done, and that no file is called so.
    """
    if size_of(told.subject, told.detail) <= MOST_WISH:
        return told
    for cut in CUTS:
        detail = {**_cut(told.detail, cut, DEEPEST), "left_out": "the middle of long values"}
        found = Told(told.kind, _cut(told.subject, cut, DEEPEST), detail)
        if size_of(found.subject, found.detail) <= MOST_WISH:
            return found
    named = {"event": _cut(str(told.detail.get("event", "")), cut, DEEPEST)}
    return Told(told.kind, found.subject, {**named, "left_out": "all but the subject: too long"})


def _cut(value: Any, cut: tuple[int, int], depth: int) -> Any:
    characters, items = cut
    if isinstance(value, str):
        return value if len(value) <= characters else _shortened(value, characters)
    if isinstance(value, dict | list | tuple) and depth == 0:
        return f"[... {len(value)} values ...]"
    if isinstance(value, dict):
        kept = [*value.items()][:items]
        return {_cut(str(key), cut, depth): _cut(item, cut, depth - 1) for key, item in kept}
    if isinstance(value, list | tuple):
        left = len(value) - items
        rest = [f"[... {left} more ...]"] if left > 0 else []
        return [*(_cut(item, cut, depth - 1) for item in value[:items]), *rest]
    return value


def _shortened(text: str, characters: int) -> str:
    raw = raw_bytes(text)
    note = f"[... {len(raw)} bytes in all, sha256:{hashlib.sha256(raw).hexdigest()} ...]"
    return text[: characters // 2] + note + text[-(characters // 2) :]


def _path(path: bytes) -> str:
    return os.fsdecode(b"/" + path)
