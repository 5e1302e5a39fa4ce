"""Where folders are, by the keys that events name them with. Pure.

A folder is held as a name in its parent, so that a rename moves everything below it at once.
"""

from __future__ import annotations

from collections.abc import Container

from ringfence.watch.baseline.entry import joined

DEEPEST = 10_000
"""Folders above one another; more means that renames have made a circle of what is held."""


class Places:
    """The folders of a target. A path has no leading slash; the root's own is ''."""

    def __init__(self) -> None:
        self._at: dict[bytes, tuple[bytes, bytes]] = {}
        self._in: dict[bytes, set[bytes]] = {}
        self._fixed: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._at) + len(self._fixed)

    def __contains__(self, key: bytes) -> bool:
        return key in self._at or key in self._fixed

    def fix(self, key: bytes, path: bytes) -> None:
        """A folder from which others are reached: it is at `path`, whatever is renamed."""
        self._fixed[key] = path

    def put(self, key: bytes, parent: bytes, name: bytes) -> None:
        """A folder is, or has come to be, `name` in `parent`."""
        if key not in self._fixed and key != parent:
            self._take(key)
            self._at[key] = parent, name
            self._in.setdefault(parent, set()).add(key)

    def drop(self, key: bytes) -> None:
        """A folder is gone, or has left, with all that is below it: what comes to be in there is
        not followed from now on, so that none of it may have a path again unless it is put."""
        todo = [key]
        while todo:
            key = todo.pop()
            self._take(key)
            todo += self._in.pop(key, ())

    def _take(self, key: bytes) -> None:
        former = self._at.pop(key, None)
        if former is not None and former[0] in self._in:
            self._in[former[0]].discard(key)
            if not self._in[former[0]]:
                del self._in[former[0]]

    def at(self, key: bytes) -> tuple[bytes, bytes] | None:
        """The parent and the name of a folder; None for one that is not held by them."""
        return self._at.get(key)

    def unsure(self, key: bytes, moved: Container[bytes]) -> bytes | None:
        """The first folder, of `key` and those that it is in, that is among `moved` or has no
        place; None where there is none."""
        for _ in range(DEEPEST):
            if key in self._fixed:
                return None
            if key in moved or key not in self._at:
                return key
            key = self._at[key][0]
        return key

    def path(self, key: bytes) -> bytes | None:
        """Where a folder is; None for one that is not, or not any more, in the target."""
        names: list[bytes] = []
        for _ in range(DEEPEST):
            fixed = self._fixed.get(key)
            if fixed is not None:
                return joined(fixed, b"/".join(reversed(names)))
            found = self._at.get(key)
            if found is None:
                return None
            key = found[0]
            names.append(found[1])
        return None
