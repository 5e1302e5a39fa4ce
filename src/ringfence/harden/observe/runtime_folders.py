"""Folders below /run that an init system makes before a service starts (tmpfiles.d(5)).

An archive of a root file system has none of them. In the copy for observation they are made as
the tree's own tmpfiles.d says, with the owner and mode named there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from ringfence.collect.files.paths import inside
from ringfence.errors import InputError
from ringfence.harden.service import identity
from ringfence.harden.tree import Tree

_MODE = re.compile("[0-7]{1,5}")


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
    """Make them below `root`, a copy of ours."""
    for folder in folders:
        place = root / folder.path
        place.mkdir(parents=True, exist_ok=True)
        os.chown(place, folder.uid, folder.gid)
        place.chmod(folder.mode)
