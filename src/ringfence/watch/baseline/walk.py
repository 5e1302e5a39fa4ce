"""Lists a live tree in the order of a baseline, folder by folder, without looking at its files.

Each folder is opened anew below a held descriptor (`opening`), so a walk cannot leave the tree.
What is mounted inside is named and not entered.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ringfence.errors import InputError
from ringfence.mountinfo import Row
from ringfence.watch.baseline.entry import joined
from ringfence.watch.baseline.opening import FOLDER, MOST_PART, open_folder
from ringfence.watch.baseline.private import private_view
from ringfence.watch.baseline.rules import Rules

MOUNTED = "another file system is mounted here: not entered"
MOST_PATH = 1 << 14
"""Bytes of a path; what is deeper is named as unseen. The kernel takes 4,096 at a time."""

Listing = tuple[int, bytes, list[bytes], bytes]
"""A start's number, a folder's path from the target's root, names in it by their bytes, and a byte
for each of them: `PLAIN`, `FOLDERS`, or `ODD` for neither, or for what is not known to be one."""
PLAIN, FOLDERS, ODD = b"fdo"
_BYTES = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
"""What os.fsencode asks for anew with each name."""


class Start(msgspec.Struct, frozen=True):
    """A held folder from which others are opened: `prefix` is its own path from the root.

    `mounts`: whether mount points may be crossed below it, which is so for the folders that only
    lead to what was selected. `view`: a `private_view` of the folder, where one is to be had: then
    neither symlinks nor mounts can be followed there, and the kernel need not be asked not to.
    """

    prefix: bytes
    handle: int
    mounts: bool = False
    view: int | None = None

    def open(self, path: bytes) -> int:
        """A descriptor of the folder at `path` (from the target's root), in the view if there is
        one. Raises OSError."""
        if self.view is None:
            return self.open_mounted(path)
        below = path[len(self.prefix) :].lstrip(b"/") if self.prefix else path
        if 0 < len(below) < MOST_PART:
            return os.open(below, FOLDER, dir_fd=self.view)
        return open_folder(self.view, below)

    def open_mounted(self, path: bytes) -> int:
        """The same where it is mounted, so that what is mounted in it is there. Raises OSError."""
        below = path[len(self.prefix) :].lstrip(b"/")
        return open_folder(self.handle, below, mounts=self.mounts)


def open_root(path: Path) -> int:
    """A descriptor of a target's root. Raises InputError."""
    try:
        return os.open(path, FOLDER & ~os.O_NOFOLLOW)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise InputError(f"cannot be opened: {why}", where=str(path)) from None


class Walk:
    """One pass over the tree below `root`, or over the paths `only` in it.

    `mounts` are paths at which something else is mounted; `skip` are paths of this run's own
    files. `unseen` fills with what could not be listed, and why.
    """

    def __init__(
        self,
        root: int,
        rules: Rules,
        only: Iterable[bytes] = (),
        mounts: frozenset[bytes] = frozenset(),
        skip: frozenset[bytes] = frozenset(),
    ) -> None:
        self.rules = rules
        self.mounts = mounts
        self.skip = skip
        self.unseen: list[tuple[bytes, str]] = []
        self._only = _outermost(only)
        self.starts = [_start(b"", root, mounts=bool(self._only))]
        self._open_selected()

    def close(self) -> None:
        """Let go of every folder but the root."""
        for start in self.starts:
            if start.view is not None:
                os.close(start.view)
        for start in self.starts[1:]:
            os.close(start.handle)

    def _open_selected(self) -> None:
        """Every selected folder becomes a start of its own, whatever it is mounted from."""
        for path in self._only:
            try:
                handle = self.starts[0].open(path)
            except OSError:  # a file, a symlink, or nothing: its folder's listing tells
                continue
            self.starts.append(_start(path, handle))

    def listings(self) -> Iterator[Listing]:
        """Every folder with the names in it. The root's own entry is the name '' of the first."""
        if not self._only:
            yield 0, b"", [b""], bytes([FOLDERS])
            yield from self._tree(0, b"")
            return
        numbers = {start.prefix: place for place, start in enumerate(self.starts) if place}
        for folder, names in _tree_of(self._only):
            if names is not None:
                yield from self._named(folder, names)
            elif folder in numbers:
                yield from self._tree(numbers[folder], folder)

    def _named(self, folder: bytes, names: list[bytes]) -> Iterator[Listing]:
        """Selected names of a folder that is not itself selected."""
        try:
            handle = self.starts[0].open(folder)
        except OSError:
            return
        try:
            there = [name for name in names if _exists(handle, name)]
        finally:
            os.close(handle)
        if there:
            yield 0, folder, there, bytes([ODD]) * len(there)

    def _tree(self, start: int, folder: bytes) -> Iterator[Listing]:
        todo = [folder]
        while todo:
            folder = todo.pop()
            try:
                listing, below = self._list(start, folder)
            except OSError as error:
                self._refuse(folder, error)
                continue
            if listing[2]:
                yield listing
            if below:
                below.reverse()
                inside = folder + b"/" if folder else b""
                todo += [inside + name for name in below]

    def _list(self, start: int, folder: bytes) -> tuple[Listing, list[bytes]]:
        """All names of a folder, sorted as the folders to enter among them."""
        names: list[bytes] = []
        folders: list[bytes] = []
        others: dict[bytes, int] = {}
        encoding, errors = _BYTES
        handle = self.starts[start].open(folder)
        try:
            with os.scandir(handle) as entries:
                for entry in entries:
                    name = entry.name.encode(encoding, errors)
                    names.append(name)
                    if entry.is_file(follow_symlinks=False):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        others[name] = FOLDERS
                        folders.append(name)
                    else:
                        others[name] = ODD
        finally:
            os.close(handle)
        names.sort()
        if self.skip:
            names = [name for name in names if joined(folder, name) not in self.skip]
        listing = (start, folder, names, _kinds(names, others))
        if folders:
            folders.sort()
            folders = self._to_enter(start, folder, folders)
        if len(folder) > MOST_PATH:
            self.unseen += [
                (joined(folder, name)[:256], "its path is too long") for name in folders
            ]
            folders = []
        return listing, folders

    def _to_enter(self, start: int, folder: bytes, names: list[bytes]) -> list[bytes]:
        """Folders without those in which the rules keep nothing, and without mount points: in a
        private view what they are mounted on would be seen."""
        wanted = self.rules.entered(folder, names)
        if not self.mounts:
            return wanted
        mounted = {name for name in wanted if self._is_mounted(start, joined(folder, name))}
        self.unseen += [(joined(folder, name), MOUNTED) for name in sorted(mounted)]
        return [name for name in wanted if name not in mounted]

    def _is_mounted(self, start: int, path: bytes) -> bool:
        """Whether what is seen at `path` is mounted there: a table of mounts names those, too,
        over which something else was mounted later."""
        if path not in self.mounts:
            return False
        try:
            os.close(self.starts[start].open_mounted(path))
        except OSError as error:
            return error.errno == errno.EXDEV
        return False

    def _refuse(self, folder: bytes, error: OSError) -> None:
        if error.errno == errno.EXDEV:
            self.unseen.append((folder, MOUNTED))
        elif error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            # Those three: it was removed or replaced since its name was read.
            self.unseen.append((folder, os.strerror(error.errno or 0).lower()))


def _start(prefix: bytes, handle: int, *, mounts: bool = False) -> Start:
    return Start(prefix, handle, mounts, None if mounts else private_view(handle))


def _kinds(names: list[bytes], others: dict[bytes, int]) -> bytes:
    if not others:
        return bytes([PLAIN]) * len(names)
    return bytes([others.get(name, PLAIN) for name in names])


def _exists(handle: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=handle, follow_symlinks=False)
    except OSError:
        return False
    return True


def _split(path: bytes) -> tuple[bytes, bytes]:
    folder, _, name = path.rpartition(b"/")
    return folder, name


def _outermost(paths: Iterable[bytes]) -> list[bytes]:
    """Selected paths without those that lie below another of them; [] where the root is one."""
    kept: list[bytes] = []
    for path in sorted({item.strip(b"/") for item in paths}, key=lambda item: item.split(b"/")):
        if not path:
            return []
        if not (kept and path.startswith(kept[-1] + b"/")):
            kept.append(path)
    return kept


def _tree_of(only: list[bytes]) -> list[tuple[bytes, list[bytes] | None]]:
    """Folders to list in order: with the selected names in it, or None for a selected one."""
    rows: dict[bytes, list[bytes] | None] = dict.fromkeys(only)
    for path in only:
        folder, name = _split(path)
        inside = rows.setdefault(folder, [])
        assert inside is not None  # noqa: S101 - `only` holds no folder of another of its paths
        inside.append(name)
    return sorted(rows.items(), key=lambda row: row[0].split(b"/") if row[0] else [])


def mounts_below(mounts: Iterable[Row], root: bytes = b"/") -> frozenset[bytes]:
    """Mount points below `root`, relative to it."""
    prefix = root.rstrip(b"/") + b"/"
    return frozenset(
        row.point[len(prefix) :]
        for row in mounts
        if row.point.startswith(prefix) and row.point != prefix
    )
