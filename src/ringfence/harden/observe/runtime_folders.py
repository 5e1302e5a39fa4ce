"""Folders below /run that an init system makes before a service starts (tmpfiles.d(5)).

An archive of a root file system has none of them. In the copy for observation they are made as
the tree's own tmpfiles.d says, with the owner and mode named there.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import msgspec

from ringfence.collect.files.paths import inside
from ringfence.errors import InputError
from ringfence.harden.service import identity
from ringfence.harden.tree import Tree
from ringfence.untrusted import LONGEST_SHOWN

_MODE = re.compile("[0-7]{1,5}")
_UNMADE = (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Something else in the way, or a name that no folder can have."""


class Folder(msgspec.Struct, frozen=True):
    """One folder to make; `path` relative to the root."""

    path: str
    mode: int
    uid: int
    gid: int


def runtime_folders(tree: Tree) -> tuple[Folder, ...]:
    """The `d` and `D` lines for /run in the tree's tmpfiles.d."""
    found: list[Folder] = []
    for name in tree.names("usr/lib/tmpfiles.d"):
        text = tree.read(f"usr/lib/tmpfiles.d/{name}", 1 << 16).decode("utf-8", "replace")
        for line in text.splitlines():
            folder = _folder(line.split(), tree)
            found += [folder] if folder is not None else []
    return tuple(found)


def _folder(words: list[str], tree: Tree) -> Folder | None:
    if len(words) < 5 or words[0].rstrip("!+-=~^") not in ("d", "D"):
        return None
    path = inside(tree.resolve(words[1])[0])
    if path is None or not path.startswith("run/"):
        return None
    mode = int(words[2], 8) if _MODE.fullmatch(words[2]) else 0o755
    try:
        who = identity(f"{_or_root(words[3])}:{_or_root(words[4])}", tree)
    except InputError:
        return None
    return Folder(path, mode & 0o7777, who.uid, who.gid)


def _or_root(word: str) -> str:
    return "0" if word == "-" else word


def make(folders: tuple[Folder, ...], root: Path) -> None:
    """Make them below `root`, a copy of ours, as systemd-tmpfiles(8) does: a line that cannot be
    followed is passed over. Raises InputError where the host has no room for them."""
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            try:
                _make(folder, handle)
            except OSError as error:
                if error.errno not in _UNMADE:
                    raise InputError(f"cannot be made: {error.strerror}",
                                     where=f"/{folder.path[:LONGEST_SHOWN]}") from None  # fmt: skip
    finally:
        os.close(handle)


def _make(folder: Folder, root: int) -> None:
    """One folder, each step from the descriptor of the one before and none through a symlink: the
    tree is somebody else's, and a link in it would lead into this host's folders."""
    here = os.dup(root)
    try:
        for name in folder.path.split("/"):
            inner = _entered(here, name)
            os.close(here)
            here = inner
        os.fchown(here, folder.uid, folder.gid)
        os.fchmod(here, folder.mode)
    finally:
        os.close(here)


def _entered(parent: int, name: str) -> int:
    """A descriptor of a folder in `parent`, made where there is none. Raises NotADirectoryError
    for a file or a symlink."""
    try:
        os.mkdir(name, dir_fd=parent)
        made = True
    except FileExistsError:
        made = False
    inner = os.open(
        name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
    )
    if made:
        os.fchmod(inner, 0o755)  # whatever our umask is
    return inner
