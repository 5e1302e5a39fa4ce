"""Marks on what a target is, and nothing beside it; and paths for the keys that events carry.

A target that is a whole file system of its own gets one mark on that. Of any other one every
folder is marked, before it is listed, so that nothing can be made in between unseen; a folder that
comes to be later is marked when its event is read, and what is in it by then is given to be judged.
Events tell of folders under names that they have no more, and alike ones are told as one, at the
place of the first. So each name that an event was about is looked at when the kernel's queue is
empty: what is there then is marked and in its place, whatever the events seemed to say.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Generator, Iterator

import msgspec

from ringfence.errors import InputError
from ringfence.watch.baseline.entry import joined
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


class News(msgspec.Struct):
    """`touched`: names at which events said that a folder came or went, or at which one was gone
    when it was to be marked; in their order. `found`: folders that were seen, with every place of
    theirs: events of what was before that are read after it."""

    touched: dict[Named, None] = {}
    found: dict[bytes, list[Named]] = {}


class Marks:
    """The marks of a group on a target whose root is held by `root`. Raises InputError."""

    def __init__(self, group: fanotify.Group, target: Target, root: Start, judge: Judge) -> None:
        self._group = group
        self._target = target
        self._root = root
        self._judge = judge
        self._places = Places()
        self._news, self._former = News(), News()
        """Since `settle` was called last, and between the two times before, if the kernel's queue
        was not empty then."""
        self._moved: dict[bytes, None] = {}
        """Folders that are where an event put them, and were not seen there."""
        self._lately: list[bytes] = []
        """Folders that were seen while one name was looked at."""
        self._passed: dict[Named, None] = {}
        """Folders without a mark that the rules ignore, where they are."""
        self._renamed = False
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
        """Names that are to be looked at when the kernel's queue is empty."""
        return len(self._news.touched) + len(self._former.touched)

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

        `at`: the name of which folder is to be looked at later if it is not there any more.
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
        ignored = self._judge.ignored(folder, name)
        if at is not None:
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
            self._keep(key, folder, handle, at, fixed=fixed)
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

    def _keep(
        self, key: bytes, folder: bytes, handle: int, at: Named | None, *, fixed: bool
    ) -> None:
        if fixed:
            self._places.fix(key, folder)
            return
        # Of the folder itself: its path may lead through another one by now.
        seen = Named(_above(handle), folder.rpartition(b"/")[2])
        self._seen(key, seen)
        if at is not None and at != seen:  # it is another; the one at that name has no mark
            self._news.touched[at] = None

    def _seen(self, key: bytes, at: Named) -> None:
        """A folder is there, now."""
        self._places.put(key, at.folder, at.name)
        self._moved.pop(key, None)
        self._lately.append(key)
        self._news.found.setdefault(key, []).append(at)

    def _refuse(self, folder: bytes, at: Named | None, error: OSError) -> None:
        if error.errno in GONE:
            if at is not None:
                self._news.touched[at] = None
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
        self._news, self._former = News(), News()
        self._moved.clear()
        self._passed.clear()
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
        if self.whole:
            return
        self._news.touched[at] = None
        above = self._places.path(at.folder)
        if above is not None:
            yield from self.cover(joined(above, at.name), at)

    def moved(
        self, child: bytes, old: Named | None, new: Named | None
    ) -> Iterator[tuple[bytes, bytes]]:
        """A folder was renamed; a name is None where that is not in the target. Marks it, where it
        was not; gives what is in it by now, then."""
        self._paths.forget()
        if self.whole or not child:
            return
        self._renamed = True
        if old is not None:
            self._left(child, old)
        held = self._places.path(child)
        if new is not None:
            self._news.touched[new] = None
            if self._places.path(new.folder) is not None:
                if held is None:  # what came to be in it was not followed
                    yield from self.made(new)
                else:
                    self._places.put(child, new.folder, new.name)
                    self._moved[child] = None
                    if self._places.path(child) is None:  # of what is in a circle nothing is known
                        self._drop(child)
                return
        if held is None or not self._leads_to(held, child):
            self._drop(child)

    def _left(self, child: bytes, at: Named) -> None:
        """A folder was at a place. Where it was found since, it may be still."""
        for place in (at, *self._former.found.get(child, ()), *self._news.found.get(child, ())):
            self._news.touched[place] = None
        self._passed.pop(at, None)

    def _drop(self, key: bytes) -> None:
        self._places.drop(key)
        self._moved.pop(key, None)

    @property
    def unsettled(self) -> bool:
        """Whether `settle` has anything to look at."""
        return bool(self._news.touched or self._former.touched)

    def settle(self, *, empty: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """What is held must be what there is: looks at each name that events were about. Gives what
        is in folders by now that were not where they were held to be, or had no mark.

        `empty`: the kernel's queue is. Otherwise as many events were read since the last call as it
        can hold; then those that are read until the next one may be of what was before this.
        """
        names = {**self._former.touched, **self._news.touched}
        self._former, self._news = News() if empty else self._news, News()
        if not names:
            return
        moved = [*self._moved]
        unseen = yield from self._look_at([*names])
        for key in moved:
            if key in self._moved:  # it is at no place whose folder has a mark
                self._drop(key)
        for at in unseen:
            if at.folder in self._places:  # it, or one that it is in, is looked for still
                self._news.touched[at] = None
        if self._renamed:
            self._renamed = False
            yield from self._ignored_no_longer()

    def _look_at(self, names: list[Named]) -> Generator[tuple[bytes, bytes], None, list[Named]]:
        """From the root downwards: a folder can be looked at in one that is where it is held. Those
        in others remain."""
        waiting: dict[bytes, list[Named]] = {}
        names.reverse()
        while names:
            at = names.pop()
            unsure = self._places.unsure(at.folder, self._moved)
            if unsure is not None:
                waiting.setdefault(unsure, []).append(at)
                continue
            self._lately.clear()
            yield from self._look(at)
            for key in self._lately:
                names += waiting.pop(key, [])
        return [at for items in waiting.values() for at in items]

    def _look(self, at: Named) -> Iterator[tuple[bytes, bytes]]:
        """Have the folder at a name marked, and held to be there."""
        above = self._places.path(at.folder)
        if above is None:
            return
        path = joined(above, at.name)
        key = self._key_at(path, at)
        if not key:
            return
        held = self._places.path(key)
        if self._pass(path, at):
            if held is None:
                self._places.drop(key)
            elif key in self._places:
                self._seen(key, at)
        elif held == path:
            self._seen(key, at)
        else:  # what events told of it was told of another path, or not at all
            yield above, at.name
            yield from self.cover(path, at)

    def _key_at(self, path: bytes, at: Named) -> bytes:
        """The key of the folder at a path, b'' where there is none. Where the folder above is
        another than it should be, that one was just renamed, or replaced by the one renamed."""
        try:
            handle = self._root.open(path)
        except OSError as error:
            if error.errno in GONE:
                self._passed.pop(at, None)
                if not self._leads_to(path.rpartition(b"/")[0], at.folder):
                    self._doubt(at)
            else:
                self._refuse(path, None, error)
            return b""
        try:
            key, above = key_of(handle), _above(handle)
        except OSError:
            key = above = b""
        finally:
            os.close(handle)
        if above == at.folder:
            return key
        self._doubt(at)
        return b""

    def _doubt(self, at: Named) -> None:
        """The folder of a name is not where it is held to be: look at its own place, too."""
        self._news.touched[at] = None
        place = self._places.at(at.folder)
        if place is not None:
            self._news.touched[Named(*place)] = None
            self._moved[at.folder] = None

    def _ignored_no_longer(self) -> Iterator[tuple[bytes, bytes]]:
        """Marks the folders that were ignored and by their path now are not."""
        for at in [*self._passed]:
            above = self._places.path(at.folder)
            if above is None or self._judge.ignored(above, at.name):
                continue
            if at in self._passed:  # else it was met below another one
                del self._passed[at]
                yield above, at.name
                yield from self.cover(joined(above, at.name), at)

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

    def gone(self, child: bytes, at: Named) -> None:
        """A folder has left its place."""
        self._paths.gone(child)
        if not self.whole:
            self._left(child, at)
            self._drop(child)

    def bury(self, child: bytes, at: Named) -> None:
        """A folder was removed, and the kernel has dropped its mark. Events of what was in it may
        be read later still."""
        self.gone(child, at)
        if self.whole:
            self._paths.bury(child, at)


def _above(handle: int) -> bytes:
    """The key of the folder that a folder is in. Raises OSError."""
    above = os.open(b"..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
    try:
        return key_of(above)
    finally:
        os.close(above)
