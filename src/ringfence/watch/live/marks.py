"""Marks on what a target is, and nothing beside it; and paths for the keys that events carry.

A target that is a whole file system of its own gets one mark on that. Of any other one every
folder is marked, before it is listed, so that nothing can be made in between unseen; a folder that
comes to be later is marked when its event is read, and what is in it by then is given to be judged.
One that has another name by then is owed a mark until an event says where it is, or that it ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from ringfence.errors import InputError
from ringfence.watch.baseline.entry import DIRECTORY, joined
from ringfence.watch.baseline.targets import Target
from ringfence.watch.baseline.walk import Start
from ringfence.watch.live import fanotify
from ringfence.watch.live.events import Named
from ringfence.watch.live.handles import key_of, open_key
from ringfence.watch.live.judge import Judge
from ringfence.watch.live.mounts import own_filesystem
from ringfence.watch.live.paths import GONE, Paths
from ringfence.watch.live.places import Places

REMOVED = "its root was removed"
RENAMED = "its root, or a folder above it, was renamed or unmounted"
REPLACED = "its path leads to another folder now"


class Marks:
    """The marks of a group on a target whose root is held by `root`. Raises InputError."""

    def __init__(self, group: fanotify.Group, target: Target, root: Start, judge: Judge) -> None:
        self._group = group
        self._target = target
        self._root = root
        self._judge = judge
        self._places = Places()
        self._owed: dict[Named, None] = {}
        """Folders without a mark that were not found where they were; in the order of events."""
        self._fresh: dict[bytes, list[Named]] = {}
        """Folders that were found since the kernel's queue was empty, with every place of theirs:
        events of what was before that are read after it."""
        self._doubted: dict[bytes, None] = {}
        """Those of them that such an event may have put elsewhere."""
        self._passed: dict[Named, None] = {}
        """Folders without a mark that the rules ignore, where they are."""
        self.selected = tuple(path.strip(b"/") for path in target.only if path.strip(b"/"))
        self.whole = not self.selected and self._whole(target)
        self.refused: list[tuple[bytes, str]] = []
        """Folders that could not be marked, and why. Whoever tells of them takes them out."""
        self._prefix = os.readlink(os.fsencode(f"/proc/self/fd/{root.handle}")).rstrip(b"/")
        self._paths = Paths(root, self._prefix)
        if not self.whole:
            self._all()

    def __len__(self) -> int:
        return 1 if self.whole else len(self._places)

    @property
    def owed(self) -> int:
        """Folders that are to be marked as soon as an event says where they are."""
        return len(self._owed)

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
            self._one(folder, None, fixed=True)
            if self._is_folder(folder, name):
                for _ in self.cover(path, fixed=True):
                    pass
        if not len(self._places):
            why = self.refused[0][1] if self.refused else "there is nothing to mark"
            raise InputError(f"cannot be watched: {why}", where=self._target.name)

    def cover(
        self, path: bytes, at: Named | None = None, *, fixed: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Mark a folder and all below it; gives every (folder, name) that is in there now.

        `at`: by which name of which folder it is owed a mark if it is not there any more.
        """
        todo = [(path, at)]
        while todo:
            folder, at = todo.pop()
            if not fixed and folder and self._pass(folder, at):
                continue
            key, found = self._one(folder, at, fixed=fixed or not folder)
            fixed = False
            for name, is_folder in found:
                yield folder, name
                if is_folder:
                    todo.append((joined(folder, name), Named(key, name)))

    def _pass(self, path: bytes, at: Named | None) -> bool:
        """Whether a folder is not to be marked."""
        folder, _, name = path.rpartition(b"/")
        ignored = self._judge.ignored(folder, name, DIRECTORY)
        if at is not None:
            self._owed.pop(at, None)
            self._passed.pop(at, None)
            if ignored:
                self._passed[at] = None
        return ignored or path in self._judge.mounts or not self._leads(path)

    def _leads(self, path: bytes) -> bool:
        """Whether a folder is in the selection, or something selected is below it."""
        return self.wanted(path) or any(item.startswith(path + b"/") for item in self.selected)

    def _one(
        self, folder: bytes, at: Named | None, *, fixed: bool
    ) -> tuple[bytes, list[tuple[bytes, bool]]]:
        """Mark one folder; its key, and the names in it with whether each is a folder."""
        try:
            handle = self._root.open(folder)
        except OSError as error:
            self._refuse(folder, at, error)
            return b"", []
        try:
            key = key_of(handle)
            self._keep(key, folder, handle, fixed=fixed)
            mask = fanotify.CHANGES | fanotify.EVENT_ON_CHILD
            if not folder:  # of no other one is the folder that it is in without a mark
                mask |= fanotify.MOVE_SELF
            self._group.mark(fanotify.MARK_ADD | fanotify.MARK_ONLYDIR, handle, mask)
            with os.scandir(handle) as entries:
                return key, [
                    (os.fsencode(entry.name), entry.is_dir(follow_symlinks=False))
                    for entry in entries
                ]
        except OSError as error:
            self._refuse(folder, at, error)
            return b"", []
        finally:
            os.close(handle)

    def _keep(self, key: bytes, folder: bytes, handle: int, *, fixed: bool) -> None:
        if fixed:
            self._places.fix(key, folder)
            return
        # Of the folder itself: its path may lead through another one by now.
        parent = os.open(b"..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
        try:
            at = Named(key_of(parent), folder.rpartition(b"/")[2])
        finally:
            os.close(parent)
        self._places.put(key, at.folder, at.name)
        self._fresh.setdefault(key, []).append(at)

    def _refuse(self, folder: bytes, at: Named | None, error: OSError) -> None:
        if error.errno in GONE:
            if at is not None:
                self._owed[at] = None
        elif error.errno != errno.EXDEV:  # something is mounted there, which is told as such
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
        self._paths.renew()
        if self.whole:
            return
        self._places = Places()
        self._owed.clear()
        self._passed.clear()
        self._fresh.clear()
        self._doubted.clear()
        self._all()

    def covered(self) -> bool:
        """Whether the target's path leads to another folder than the one that is watched."""
        try:
            now, held = os.stat(self._target.root), os.fstat(self._root.handle)
        except OSError:
            return True
        return (now.st_dev, now.st_ino) != (held.st_dev, held.st_ino)

    def astray(self) -> str:
        """Why the target's path leads to the folder that is watched no more, '' where it does, or
        something is mounted over it. What a container calls its root has no path here."""
        if self._target.kind in ("container", "process"):
            return ""
        held = os.fstat(self._root.handle)
        try:
            now = os.readlink(os.fsencode(f"/proc/self/fd/{self._root.handle}"))
        except OSError:  # it is below a path that is longer than one may be
            now = b""
        if now.rstrip(b"/") != self._prefix:
            return REMOVED if held.st_nlink == 0 else RENAMED
        with contextlib.suppress(OSError):
            if self.covered() and os.path.samestat(os.stat(self._prefix or b"/"), held):
                return REPLACED
        return ""

    def path(self, key: bytes) -> bytes | None:
        """Where the folder `key` is, None where it is not in the target (any more), or so deep that
        nothing tells its path: see `above`."""
        return self._paths.path(key) if self.whole else self._places.path(key)

    def above(self, key: bytes) -> bytes | None:
        """Of a folder without a `path` since that is too long: the deepest one above it that has
        one. None of any other."""
        return self._paths.above(key)

    def unburied(self, key: bytes) -> bytes | None:
        """The folder, of `key` and those it was in, that was removed and of whose removal no event
        was read yet: that one says where it was. None if there is none."""
        return self._paths.unburied(key) if self.whole else None

    def is_buried(self, key: bytes) -> bool:
        """Whether a folder was removed by an event that was read."""
        return self._paths.is_buried(key)

    def wanted(self, path: bytes) -> bool:
        """Whether a path is in the target's selection."""
        return not self.selected or any(
            path == item or path.startswith(item + b"/") for item in self.selected
        )

    def made(self, at: Named) -> Iterator[tuple[bytes, bytes]]:
        """A folder came to be: mark it; gives what is in it by now."""
        above = self._places.path(at.folder)
        if not self.whole and above is not None:
            yield from self.cover(joined(above, at.name), at)

    def moved(
        self, child: bytes, old: Named | None, new: Named | None
    ) -> Iterator[tuple[bytes, bytes]]:
        """A folder was renamed; a name is None where that is not in the target. Marks it, where it
        was not, and all that is owed a mark; gives what is in these folders by now."""
        self._paths.forget()
        if self.whole or not child:
            return
        if old is not None:
            self._settle(old)
        if child in self._fresh:
            self._doubted[child] = None
            self._fresh[child] += [new] if new is not None else []
        if new is None or self._places.path(new.folder) is None:
            path = self._places.path(child)
            if path is None or not self._leads_to(path, child):
                self._places.drop(child)
            return
        if child in self._places:
            self._places.put(child, new.folder, new.name)
            yield from self._owe_below(child)
        else:
            self._owed[new] = None
        yield from self._mark_owed()

    def _owe_below(self, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        """A folder has another path: gives the folders that were ignored below it and are no
        longer."""
        path = self._places.path(key)
        for at in list(self._passed):
            above = self._places.path(at.folder)
            if path is None or above is None or not (above + b"/").startswith(path + b"/"):
                continue
            if not self._judge.ignored(above, at.name, DIRECTORY):
                del self._passed[at]
                self._owed[at] = None
                yield above, at.name

    @property
    def unsettled(self) -> bool:
        """Whether `settle` has anything to do."""
        return bool(self._fresh or self._owed)

    def settle(self) -> Iterator[tuple[bytes, bytes]]:
        """The kernel's queue is empty: what is held must be what there is. Gives what is in folders
        by now that were not where they were held to be."""
        fresh, doubted = self._fresh, [*self._doubted]
        self._fresh, self._doubted = {}, {}
        found = True
        while found and doubted:  # one is found through another
            found = False
            for key in [*doubted]:
                at = next((at for at in reversed(fresh[key]) if self._is_at(at, key)), None)
                if at is None:
                    continue
                found = True
                doubted.remove(key)
                held = self._places.path(key)
                self._places.put(key, at.folder, at.name)
                if held != self._places.path(key):
                    yield from self.made(at)
        for key in doubted:
            self._places.drop(key)
        yield from self._mark_owed()

    def _is_at(self, at: Named, key: bytes) -> bool:
        above = self._places.path(at.folder)
        return above is not None and self._leads_to(joined(above, at.name), key)

    def _leads_to(self, path: bytes, key: bytes) -> bool:
        """Whether a folder is at a path now: events of how it came there may be unread, or there
        was none, where the folder that it came into had no mark yet."""
        try:
            handle = self._root.open(path)
        except OSError:
            return False
        try:
            return key_of(handle) == key
        except OSError:
            return False
        finally:
            os.close(handle)

    def _mark_owed(self) -> Iterator[tuple[bytes, bytes]]:
        for at in list(self._owed):
            if at in self._owed:  # else it was met below another one
                del self._owed[at]
                yield from self.made(at)

    def _settle(self, at: Named) -> None:
        self._owed.pop(at, None)
        self._passed.pop(at, None)

    def gone(self, child: bytes, at: Named) -> None:
        """A folder has left its place."""
        self._settle(at)
        self._fresh.pop(child, None)
        self._doubted.pop(child, None)
        self._places.drop(child)
        self._paths.gone(child)

    def bury(self, child: bytes, at: Named) -> None:
        """A folder was removed, and the kernel has dropped its mark. Events of what was in it may
        be read later still."""
        self.gone(child, at)
        if self.whole:
            self._paths.bury(child, at)
