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
from ringfence.watch.baseline.entry import DIRECTORY, joined
from ringfence.watch.baseline.opening import FOLDER, open_folder
from ringfence.watch.baseline.rules import Mode, Rules

MOST_PATH = 1 << 14
"""Bytes of a path; what is deeper is named as unseen. The kernel takes 4,096 at a time."""

Listing = tuple[int, bytes, list[bytes], frozenset[bytes]]
"""A start's number, a folder's path from the target's root, names in it by their bytes, and which
of them are odd: neither files nor folders, or not known to be."""
NONE_ODD: frozenset[bytes] = frozenset()
_BYTES = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
"""What os.fsencode asks for anew with each name."""


class Start(msgspec.Struct, frozen=True):
    """A held folder from which others are opened: `prefix` is its own path from the root.

    `mounts`: whether mount points may be crossed below it, which is so for the folders that only
    lead to what was selected.
    """

    prefix: bytes
    handle: int
    mounts: bool = False

    def open(self, path: bytes) -> int:
        """A descriptor of the folder at `path` (from the target's root). Raises OSError."""
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
        self.starts = [Start(b"", root, mounts=bool(self._only))]
        self._open_selected()

    def _open_selected(self) -> None:
        """Every selected folder becomes a start of its own, whatever it is mounted from."""
        for path in self._only:
            try:
                handle = self.starts[0].open(path)
            except OSError:  # a file, a symlink, or nothing: its folder's listing tells
                continue
            self.starts.append(Start(path, handle))

    def listings(self) -> Iterator[Listing]:
        """Every folder with the names in it. The root's own entry is the name '' of the first."""
        if not self._only:
            yield 0, b"", [b""], NONE_ODD
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
            yield 0, folder, there, frozenset(there)

    def _tree(self, start: int, folder: bytes) -> Iterator[Listing]:
        todo = [folder]
        while todo:
            folder = todo.pop()
            try:
                names, folders, odd = self._list(start, folder)
            except OSError as error:
                self._refuse(folder, error)
                continue
            if names:
                yield start, folder, names, odd
            todo += reversed([joined(folder, name) for name in folders])

    def _list(self, start: int, folder: bytes) -> tuple[list[bytes], list[bytes], frozenset[bytes]]:
        """All names of a folder, the folders to enter among them, both sorted, and the odd ones."""
        names: list[bytes] = []
        folders: list[bytes] = []
        odd: list[bytes] = []
        handle = self.starts[start].open(folder)
        try:
            with os.scandir(handle) as entries:
                for entry in entries:
                    name = entry.name.encode(*_BYTES)
                    names.append(name)
                    if entry.is_file(follow_symlinks=False):
                        continue
                    (folders if entry.is_dir(follow_symlinks=False) else odd).append(name)
        finally:
            os.close(handle)
        names.sort()
        folders.sort()
        if self.skip:
            names = [name for name in names if joined(folder, name) not in self.skip]
        folders = self._to_enter(folder, folders)
        if len(folder) > MOST_PATH:
            self.unseen += [
                (joined(folder, name)[:256], "its path is too long") for name in folders
            ]
            folders = []
        return names, folders, frozenset(odd) if odd else NONE_ODD

    def _to_enter(self, folder: bytes, names: list[bytes]) -> list[bytes]:
        """Folders without those that are ignored with all that is in them, or lead to nothing."""
        rules = self.rules.of_folder(folder)
        if rules.simple is not None and rules.simple.mode is Mode.EXACT:
            return names
        kept = []
        for name in names:
            mode = rules.of(name, DIRECTORY).mode
            if mode is Mode.UNLISTED and not self.rules.leads(joined(folder, name)):
                continue
            if mode is not Mode.IGNORED:
                kept.append(name)
        return kept

    def _refuse(self, folder: bytes, error: OSError) -> None:
        if error.errno == errno.EXDEV:
            self.unseen.append((folder, "another file system is mounted here: not entered"))
        elif error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            # Those three: it was removed or replaced since its name was read.
            self.unseen.append((folder, os.strerror(error.errno or 0).lower()))


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


def mounts_below(mountinfo: str, root: str = "/") -> frozenset[bytes]:
    """Mount points below `root`, relative to it, of a /proc/PID/mountinfo (proc(5)).

    Field 5 is the mount point, with spaces and the like as octal escapes.
    """
    prefix = root.rstrip("/") + "/"
    found = set()
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        point = _unescaped(fields[4]) if len(fields) > 4 else ""
        if point.startswith(prefix) and point != prefix:
            found.add(os.fsencode(point[len(prefix) :]))
    return frozenset(found)


def _unescaped(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
