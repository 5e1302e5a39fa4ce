"""What differs between two entries of one path, by the rule for it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter

import msgspec

from ringfence.watch.baseline.entry import FILE, LINK, Entry, size_of
from ringfence.watch.baseline.rules import Mode, Rule

USUAL = (
    "type", "mode", "owner", "group", "size", "links", "device", "target", "xattrs", "acl",
    "default-acl", "content", "mount",
)  # fmt: skip
"""Attributes that are compared unless a rule says less."""
BY_CHOICE = ("mtime", "ctime", "inode")
FIELDS = {
    "type": "kind", "mode": "mode", "owner": "uid", "group": "gid", "size": "size",
    "links": "links", "device": "device", "target": "target", "xattrs": "xattrs", "acl": "acl",
    "default-acl": "default_acl", "content": "digest", "mount": "mount", "mtime": "mtime",
    "ctime": "ctime", "inode": "inode",
}  # fmt: skip
"""Attribute -> the field of an entry that holds it."""
_SECOND = 10**9
_NOT_METADATA = frozenset({"size", "content", "mtime", "ctime", "links"})
_TIMES = frozenset({"mtime", "ctime"})


class Change(msgspec.Struct, array_like=True, frozen=True):
    """One path that differs: `old` None where it was added, `new` None where it was removed.

    `names` are the attributes that differ. `part` is the digest of the first `old.size` bytes of
    a file that may grow.
    """

    path: bytes
    old: Entry | None
    new: Entry | None
    names: tuple[str, ...] = ()
    part: bytes = b""


class Comparison:
    """Compares with the attributes of a baseline; what the target is `blind` for is left out.

    `partial`: the target is an archive, which may tell less of one file than of another.
    """

    def __init__(
        self, chosen: Iterable[str] = (), blind: Iterable[str] = (), *, partial: bool = False
    ) -> None:
        self.blind = frozenset(blind)
        self._partial = partial
        self._chosen = (*USUAL, *(name for name in BY_CHOICE if name in set(chosen)))
        self._known: dict[Rule, tuple[tuple[str, ...], Callable[[Entry], object]]] = {}

    def differing(self, old: Entry, new: Entry, part: bytes, rule: Rule) -> tuple[str, ...]:
        """Names of the attributes that differ, `unread` among them where nothing can be said."""
        found = self._known.get(rule)
        if found is None:
            names = self._of(rule)
            fields = [FIELDS[name] for name in names]
            found = names, attrgetter(*fields, "target", "unread")
            self._known[rule] = found
        names, get = found
        if get(old) == get(new):
            return ()
        return tuple(
            name for name in (*names, "unread")
            if _differs(name, old, new, part, rule) and not (self._partial and _untold(name, new))
        )  # fmt: skip

    def _of(self, rule: Rule) -> tuple[str, ...]:
        stated = rule.attributes
        names = self._chosen if stated is None else stated
        if rule.mode is Mode.METADATA and stated is None:
            names = tuple(name for name in names if name not in _NOT_METADATA)
        if rule.mode is Mode.GROWS:
            names = tuple(name for name in names if name not in _TIMES)
        return tuple(name for name in names if name not in self.blind)


def _untold(name: str, new: Entry) -> bool:
    return name != "unread" and getattr(new, FIELDS[name]) is None


def _differs(name: str, old: Entry, new: Entry, part: bytes, rule: Rule) -> bool:
    if name == "unread":
        # What had no digest cannot be compared; what had one and cannot be read now differs.
        return bool(new.unread) and new.unread != old.unread and old.digest is not None
    if rule.mode is Mode.GROWS and old.kind == new.kind == FILE and name in ("size", "content"):
        return _grown_wrong(name, old, new, part)
    if name == "size" and old.kind == new.kind == LINK:
        return _longer(old, new, rule)
    before, now = getattr(old, FIELDS[name]), getattr(new, FIELDS[name])
    if before is None or before == now:
        return False
    if old.kind != new.kind and name in ("size", "links", "content", "target", "device"):
        return False  # the type says it all
    if name == "content":
        return now is not None and (old.sparse == new.sparse or old.size == new.size)
    if name in ("mtime", "ctime") and now is not None and not (before % _SECOND and now % _SECOND):
        # Archives and AIDE keep whole seconds.
        return bool(before // _SECOND != now // _SECOND)
    return True


def _longer(old: Entry, new: Entry, rule: Rule) -> bool:
    """Whether a symlink has another size, where its target is not compared: that says more."""
    if old.target is not None and (rule.attributes is None or "target" in rule.attributes):
        return False
    before, now = size_of(old), size_of(new)
    return before is not None and before != now


def _grown_wrong(name: str, old: Entry, new: Entry, part: bytes) -> bool:
    """A file that may grow is wrong when it shrank or its former bytes are not what they were."""
    if old.size is None or new.size is None or new.digest is None:
        return False
    if name == "size":
        return new.size < old.size
    return name == "content" and new.size >= old.size and part != (old.digest or part)
