"""Paths of folders by their keys, where a whole file system is marked: asked of the kernel by file
handles, and of those that were removed known by the events of that.
"""

from __future__ import annotations

import errno
import os

from ringfence.watch.baseline.walk import Start
from ringfence.watch.live.events import Named
from ringfence.watch.live.handles import open_key
from ringfence.watch.live.places import DEEPEST

REMEMBERED = 1 << 16
DELETED = b" (deleted)"
"""What the kernel adds to the name of a folder that was removed (proc(5))."""
MOST_STEPS = 1 << 14
"""Folders that are climbed for a name that can be told: some 10 ms."""
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)
"""What opening a folder says that is not there any more."""


class Paths:
    """Paths from the root, which `root` holds and the kernel shows as `prefix`."""

    def __init__(self, root: Start, prefix: bytes) -> None:
        self._root, self._prefix = root, prefix
        self._paths: dict[bytes, bytes] = {}
        self._above: dict[bytes, bytes] = {}
        self._buried: dict[bytes, Named] = {}
        """Folders that were removed: the name that each had last."""

    def renew(self) -> None:
        """Events were lost: forget all that was known by them."""
        self.forget()
        self._buried.clear()

    def gone(self, child: bytes) -> None:
        """A folder has left its place."""
        self._paths.pop(child, None)
        self._above.pop(child, None)

    def bury(self, child: bytes, at: Named) -> None:
        """A folder was removed. Events of what was in it may be read later still."""
        if len(self._buried) >= REMEMBERED:
            del self._buried[next(iter(self._buried))]
        self._buried[child] = at

    def path(self, key: bytes) -> bytes | None:
        """Where the folder `key` is, None where it is not in the target (any more), or so deep that
        nothing tells its path: see `above`."""
        names: list[bytes] = []
        for _ in range(DEEPEST):
            living = self._living(key)
            if living is not None:
                return b"/".join(part for part in (living, *reversed(names)) if part)
            last = self._buried.get(key)
            if last is None:
                return None
            key = last.folder
            names.append(last.name)
        return None

    def _living(self, key: bytes) -> bytes | None:
        if key not in self._paths:
            found = self._found(key)
            if found is None:
                return None
            if len(self._paths) >= REMEMBERED:
                self.forget()
            self._paths[key] = found
        return self._paths[key]

    def unburied(self, key: bytes) -> bytes | None:
        """The folder, of `key` and those it was in, that was removed and of whose removal no event
        was read yet: that one says where it was. None if there is none."""
        for _ in range(DEEPEST):
            last = self._buried.get(key)
            if last is None:
                return key if self._removed(key) else None
            key = last.folder
        return None

    def is_buried(self, key: bytes) -> bool:
        """Whether a folder was removed by an event that was read."""
        return key in self._buried

    def _removed(self, key: bytes) -> bool:
        if key in self._paths:
            return False
        try:
            handle = open_key(self._root.handle, key)
        except OSError as error:
            return error.errno in GONE
        try:
            return os.fstat(handle).st_nlink == 0  # somebody has it open still
        finally:
            os.close(handle)

    def _found(self, key: bytes) -> bytes | None:
        try:
            handle = open_key(self._root.handle, key)
        except OSError:
            return None
        try:
            path, climbed = _nameable(handle)
            if not (path + b"/").startswith(self._prefix + b"/"):
                return None
            found = path[len(self._prefix) :].strip(b"/")
            if climbed:
                self._above[key] = found
                return None
            if path.endswith(DELETED) and not self._is(found, handle):
                return None
        except OSError:
            return None
        finally:
            os.close(handle)
        return found

    def above(self, key: bytes) -> bytes | None:
        """Of a folder without a `path` since that is too long: the deepest one above it that has
        one. None of any other."""
        return self._above.get(key)

    def forget(self) -> None:
        """Something was renamed: ask the kernel anew."""
        self._paths.clear()
        self._above.clear()

    def _is(self, path: bytes, handle: int) -> bool:
        """Whether a path leads to the folder of a descriptor: anybody may call one what the kernel
        calls those that are gone."""
        try:
            other = self._root.open(path)
        except OSError:
            return False
        try:
            return os.path.samestat(os.fstat(other), os.fstat(handle))
        finally:
            os.close(other)


def _nameable(handle: int) -> tuple[bytes, bool]:
    """The path of a folder, or of the deepest one above it whose path is short enough to be told,
    and whether it is that. Raises OSError."""
    held = os.dup(handle)
    try:
        for step in range(MOST_STEPS):
            try:
                return os.readlink(b"/proc/self/fd/%d" % held), step > 0
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
            upper = os.open(b"..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
            os.close(held)
            held = upper
    finally:
        os.close(held)
    return b"", True
