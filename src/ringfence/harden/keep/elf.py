"""What ELF files need: their interpreter, their libraries, and libraries that they may load.

The search follows ld.so(8): DT_RUNPATH of the object, ld.so.conf, the standard folders. Names of
libraries inside a program's text are candidates for dlopen(3) and kept where they exist.
"""

from __future__ import annotations

import re

from ringfence.collect.files.elf import MAGIC, read_elf
from ringfence.harden.binary.loaded import Loaded, Unreadable
from ringfence.harden.keep.kept import Kept
from ringfence.harden.tree import Tree

SELDOM = frozenset({"libidn2.so.0"})
"""Named by the C library, and loaded only for host names in AI_IDN's form."""
FOLDERS = ("lib", "usr/lib", "lib64", "usr/lib64")
_LIBRARY = re.compile(rb"(?<![\w./+-])([\w./+-]{1,200}\.so(?:\.\d+){0,3})(?=[\0\s\"':])")


class Libraries:
    """Where libraries are found in a tree."""

    def __init__(self, tree: Tree, machine: str = "x86_64") -> None:
        self.tree = tree
        triplet = f"{machine}-linux-gnu"
        standard = [f"{folder}/{triplet}" for folder in FOLDERS[:2]] + list(FOLDERS)
        self.folders = [*self._configured("etc/ld.so.conf", 0), *standard]

    def _configured(self, path: str, depth: int) -> list[str]:
        found: list[str] = []
        for line in self.tree.read(path, 1 << 16).decode("utf-8", "replace").splitlines():
            words = line.partition("#")[0].split()
            if words[:1] == ["include"] and depth < 4:
                for pattern in words[1:]:
                    for name in self.tree.matching(pattern):
                        found += self._configured(name, depth + 1)
            elif words:
                found.append(words[0].strip("/"))
        return found

    def find(self, name: str, beside: tuple[str, ...] = ()) -> str | None:
        """The file that the loader would take for `name`."""
        if "/" in name:
            return name.strip("/") if name.startswith("/") and self.tree.is_file(name) else None
        for folder in (*beside, *self.folders):
            if self.tree.is_file(f"{folder}/{name}"):
                return f"{folder}/{name}"
        return None


def keep_libraries(kept: Kept, libraries: Libraries, paths: list[str]) -> list[str]:
    """What the ELF files among `paths` need, and what that needs in turn; the new files."""
    waiting, added = list(paths), []
    while waiting:
        path = waiting.pop()
        data = kept.tree.read(path)
        if data[:4] != MAGIC:
            continue
        for found, reason in _needs(path, data, libraries):
            new = kept.add(found, reason)
            if new is not None:
                waiting.append(new)
                added.append(new)
    return added


def _needs(path: str, data: bytes, libraries: Libraries) -> list[tuple[str, str]]:
    facts = read_elf(data)
    if facts is None:
        return []
    folder = path.rpartition("/")[0]
    found: list[tuple[str, str]] = []
    if facts.interpreter:
        found.append((facts.interpreter, f"the loader of {path}"))
    beside = _run_path(path, data)
    for name in facts.needed:
        place = libraries.find(name, beside)
        if place:
            found.append((place, f"library of {path}"))
    if "ld-linux" in path or "ld-musl" in path:
        return found  # its texts name what users may preload
    for match in _LIBRARY.finditer(data):
        name = match[1].decode("ascii", "replace")
        place = None if name in SELDOM else libraries.find(name, (*beside, folder))
        if place:
            found.append((place, f"may be loaded by {path}, which names it (dlopen)"))
    return found


def _run_path(path: str, data: bytes) -> tuple[str, ...]:
    try:
        return Loaded(data).run_path(path)
    except Unreadable:
        return ()
