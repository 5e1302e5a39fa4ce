"""Marks on what a target is, and nothing beside it; and paths for the keys that events carry.

A target that is a whole file system of its own gets one mark on that. Of any other one every
folder is marked, before it is listed, so that nothing can be made in between unseen; a folder that
comes to be later is marked when its event is read, and what is in it by then is given to be judged.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from ringfence.errors import InputError
from ringfence.watch.baseline.entry import DIRECTORY, joined
from ringfence.watch.baseline.targets import Target
from ringfence.watch.baseline.walk import Start
from ringfence.watch.live import fanotify
from ringfence.watch.live.handles import key_of, open_key
from ringfence.watch.live.judge import Judge
from ringfence.watch.live.mounts import own_filesystem
from ringfence.watch.live.places import Places

REMEMBERED = 1 << 16
DELETED = b" (deleted)"
"""What the kernel adds to the name of a folder that was removed (proc(5))."""
MOST_STEPS = 1 << 14
"""Folders that are climbed for a name that can be told: some 10 ms."""
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


class Marks:
    """The marks of a group on a target whose root is held by `root`. Raises InputError."""

    def __init__(self, group: fanotify.Group, target: Target, root: Start, judge: Judge) -> None:
        self._group = group
        self._target = target
        self._root = root
        self._judge = judge
        self._places = Places()
        self._paths: dict[bytes, bytes | None] = {}
        self.selected = tuple(path.strip(b"/") for path in target.only if path.strip(b"/"))
        self.whole = not self.selected and self._whole(target)
        self.refused: list[tuple[bytes, str]] = []
        """Folders that could not be marked, and why."""
        self._above: dict[bytes, bytes] = {}
        self._prefix = os.readlink(os.fsencode(f"/proc/self/fd/{root.handle}")).rstrip(b"/")
        if not self.whole:
            self._all()

    def __len__(self) -> int:
        return 1 if self.whole else len(self._places)

    def _whole(self, target: Target) -> bool:
        try:
            if not own_filesystem(target):
                return False
            flags = fanotify.MARK_ADD | fanotify.MARK_FILESYSTEM
            self._group.mark(flags, self._root.handle, fanotify.CHANGES)
            os.close(open_key(self._root.handle, key_of(self._root.handle)))
        except OSError:  # overlayfs and others give no handles that can be opened again
            return False
        return True

    def _all(self) -> None:
        if not self.selected:
            for _ in self.cover(b""):
                pass
        for path in self.selected:
            folder, _, name = path.rpartition(b"/")
            self._one(folder, fixed=True)
            if self._is_folder(folder, name):
                for _ in self.cover(path, fixed=True):
                    pass
        if not len(self._places):
            why = self.refused[0][1] if self.refused else "there is nothing to mark"
            raise InputError(f"cannot be watched: {why}", where=self._target.name)

    def cover(self, path: bytes, *, fixed: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Mark a folder and all below it; gives every (folder, name) that is in there now."""
        todo = [path]
        while todo:
            folder = todo.pop()
            found = self._one(folder, fixed=fixed or not folder)
            fixed = False
            for name, is_folder in found:
                yield folder, name
                inside = joined(folder, name)
                if (
                    is_folder
                    and inside not in self._judge.mounts
                    and not self._judge.ignored(folder, name, DIRECTORY)
                ):
                    todo.append(inside)

    def _one(self, folder: bytes, *, fixed: bool) -> list[tuple[bytes, bool]]:
        """Mark one folder; the names in it, and whether each is a folder."""
        try:
            handle = self._root.open(folder)
        except OSError as error:
            self._refuse(folder, error)
            return []
        try:
            key = key_of(handle)
            self._keep(key, folder, fixed=fixed)
            mask = fanotify.CHANGES | fanotify.EVENT_ON_CHILD
            self._group.mark(fanotify.MARK_ADD | fanotify.MARK_ONLYDIR, handle, mask)
            with os.scandir(handle) as entries:
                return [
                    (os.fsencode(entry.name), entry.is_dir(follow_symlinks=False))
                    for entry in entries
                ]
        except OSError as error:
            self._refuse(folder, error)
            return []
        finally:
            os.close(handle)

    def _keep(self, key: bytes, folder: bytes, *, fixed: bool) -> None:
        above, _, name = folder.rpartition(b"/")
        if fixed:
            self._places.fix(key, folder)
            return
        parent = self._root.open(above)
        try:
            self._places.put(key, key_of(parent), name)
        finally:
            os.close(parent)

    def _refuse(self, folder: bytes, error: OSError) -> None:
        if error.errno not in _GONE:
            self.refused.append((folder, os.strerror(error.errno or 0).lower()))

    def _is_folder(self, folder: bytes, name: bytes) -> bool:
        try:
            handle = self._root.open(joined(folder, name))
        except OSError:
            return False
        os.close(handle)
        return True

    def renew(self) -> None:
        """Events were lost: mark what there is now, forget what was known of names."""
        self._forget()
        if self.whole:
            return
        self._places = Places()
        self._all()

    def covered(self) -> bool:
        """Whether the target's path leads to another folder than the one that is watched."""
        try:
            now, held = os.stat(self._target.root), os.fstat(self._root.handle)
        except OSError:
            return True
        return (now.st_dev, now.st_ino) != (held.st_dev, held.st_ino)

    def path(self, key: bytes) -> bytes | None:
        """Where the folder `key` is, None where it is not in the target (any more), or so deep that
        nothing tells its path: see `above`."""
        if not self.whole:
            return self._places.path(key)
        if key not in self._paths:
            if len(self._paths) >= REMEMBERED:
                self._forget()
            self._paths[key] = self._found(key)
        return self._paths[key]

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

    def _forget(self) -> None:
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

    def wanted(self, path: bytes) -> bool:
        """Whether a path is in the target's selection."""
        return not self.selected or any(
            path == item or path.startswith(item + b"/") for item in self.selected
        )

    def moved(self, child: bytes, parent: bytes | None, name: bytes) -> None:
        """A folder was renamed; `parent` is None where it left the target."""
        self._forget()
        if self.whole or not child:
            return
        if parent is None or self._places.path(parent) is None:
            self._places.drop(child)
        else:
            self._places.put(child, parent, name)

    def gone(self, child: bytes) -> None:
        """A folder was removed: the kernel has dropped its mark."""
        self._places.drop(child)
        self._paths.pop(child, None)
        self._above.pop(child, None)


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
