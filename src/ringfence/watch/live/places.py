"""Where folders are, by the keys that events name them with. Pure.

A folder is held as a name in its parent, so that a rename moves everything below it at once.
"""

from __future__ import annotations

from ringfence.watch.baseline.entry import joined

DEEPEST = 10_000
"""Folders above one another; more means that renames have made a circle of what is held."""


class Places:
    """The folders of a target. A path has no leading slash; the root's own is ''."""

    def __init__(self) -> None:
        self._at: dict[bytes, tuple[bytes, bytes]] = {}
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
            self._at[key] = parent, name

    def drop(self, key: bytes) -> None:
        """A folder is gone, or has left; what is below it has no path from now on."""
        self._at.pop(key, None)

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
