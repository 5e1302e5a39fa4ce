"""From changes to what a person reads: paths, and values of attributes before and after. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from ringfence.watch.baseline.acl import acl_text
from ringfence.watch.baseline.compare import FIELDS, USUAL, Change
from ringfence.watch.baseline.entry import FILE, KIND_NAMES, Entry, algorithm_of, size_of
from ringfence.watch.baseline.result import Item, Value
from ringfence.watch.baseline.severity import CAPABILITY, meaning

LABELS = (b"security.selinux", b"security.apparmor", b"security.SMACK64")
_SECOND = 10**9


def item_of(change: Change, algorithm: str) -> Item:
    """How a change is reported. `algorithm` names the digests."""
    path, raw = shown(b"/" + change.path)
    found = meaning(path, change.old, change.new)
    names = change.names or tuple(
        name for name in USUAL if name != "mount" or (change.new or change.old or _NONE).mount
    )
    attributes: dict[str, tuple[Value, Value]] = {}
    for name in names:
        attributes.update(_rows(name, change, algorithm))
    if not change.names:
        attributes = {name: pair for name, pair in attributes.items() if pair != (None, None)}
    return Item(path, found.severity.value, found.what, attributes, raw)


_NONE = Entry(b"", FILE)


def shown(path: bytes) -> tuple[str, str | None]:
    """A path as text, and in base64 where the text is not the whole truth."""
    try:
        return path.decode(), None
    except UnicodeDecodeError:
        return path.decode("utf-8", "backslashreplace"), base64.b64encode(path).decode()


def _rows(name: str, change: Change, algorithm: str) -> dict[str, tuple[Value, Value]]:
    old, new = change.old, change.new
    if name == "xattrs":
        return _xattrs(old, new)
    if name == "unread":
        why = new.unread if new else ""
        return {"unread": (None, why)}
    if name == "target":
        return _targets(old, new)
    if name == "size" and old and new:
        return {name: (size_of(old), size_of(new))}
    before, after = (_value(name, entry) for entry in (old, new))
    if name == "content":
        if change.part and old and new and (old.size or 0) <= (new.size or 0):
            # Of a file that may grow only the former bytes are held against their digest.
            after = change.part.hex()
        digests = [entry.digest for entry in (new, old) if entry and entry.digest]
        kind = algorithm_of(digests[0] if digests else b"", algorithm)
        kind = f"{kind}-nonzero" if (new or old or _NONE).sparse else kind
        return {kind: (before, after)}
    return {name: (before, after)}


def _value(name: str, entry: Entry | None) -> Value:
    if entry is None:
        return None
    value = getattr(entry, FIELDS[name])
    show = _SHOWN.get(name)
    if value is None or show is None:
        found: Value = value
        return found
    return show(value)


def _time(value: int) -> str:
    try:
        whole = datetime.fromtimestamp(value // _SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):  # whoever owns a file sets any year, as 36812
        return f"@{value // _SECOND}.{value % _SECOND:09d}"
    return f"{whole}.{value % _SECOND:09d}Z"


_SHOWN: dict[str, Callable[..., Value]] = {
    "type": lambda kind: KIND_NAMES.get(kind, kind),
    "mode": lambda mode: f"{mode:04o}",
    "device": lambda device: f"{device >> 8 & 0xFFF}:{device & 0xFF | device >> 12 & ~0xFF}",
    "acl": lambda data: acl_text(data) or None,
    "default-acl": lambda data: acl_text(data) or None,
    "content": lambda digest: digest.hex(),
    "mtime": _time,
    "ctime": _time,
}


def _targets(old: Entry | None, new: Entry | None) -> dict[str, tuple[Value, Value]]:
    """Where a symlink leads; in base64, too, where the text of one is not the whole truth."""
    targets = [entry.target if entry else None for entry in (old, new)]
    texts = [(None, None) if target is None else shown(target) for target in targets]
    (before, _), (after, _) = texts
    rows: dict[str, tuple[Value, Value]] = {"target": (before, after)}
    if any(raw is not None for _, raw in texts):
        was, now = (None if target is None else base64.b64encode(target).decode()
                    for target in targets)  # fmt: skip
        rows["target_bytes"] = was, now
    return rows


def _xattrs(old: Entry | None, new: Entry | None) -> dict[str, tuple[Value, Value]]:
    """One row for each extended attribute that differs."""
    before, after = (dict(entry.xattrs or ()) if entry else {} for entry in (old, new))
    rows: dict[str, tuple[Value, Value]] = {}
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            key, was = _xattr(name, before.get(name))
            rows[key] = was, _xattr(name, after.get(name))[1]
    if not rows and old and new and (old.xattrs is None) != (new.xattrs is None):
        rows["xattrs"] = "read", "not to be read"
    return rows


def _xattr(name: bytes, value: bytes | None) -> tuple[str, Value]:
    """Name and value for people. Values that could hold anything are shown as their SHA-256."""
    if name == CAPABILITY:
        from ringfence.collect.files.census import capability_text

        return "capabilities", None if value is None else capability_text(value)
    if name in LABELS:
        label = None if value is None else value.rstrip(b"\0").decode("utf-8", "backslashreplace")
        return name.decode(), label
    text = None if value is None else f"sha256:{hashlib.sha256(value).hexdigest()[:16]}"
    return f"xattr {shown(name)[0]}", text
