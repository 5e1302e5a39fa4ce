"""A file tree under a root folder, seen as the service will see it: links never leave the root."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ringfence.collect.files.paths import MOST_HOPS

NOWHERE = "\0"
"""Where a path with too many symlinks leads: no file has this name, so nothing is found there."""
PROGRAM_PATH = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")


class Tree:
    """Files below `root`. Paths are relative to it, with no leading slash; '' is the root."""

    def __init__(self, root: Path) -> None:
        self.root = str(root).rstrip("/")
        self._links: dict[str, str | None] = {}
        self._resolved: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._names: dict[str, list[str]] = {}

    def full(self, path: str) -> str:
        """Where a resolved path lies on this host."""
        return f"{self.root}/{path}"

    def resolve(self, path: str, base: str = "") -> tuple[str, tuple[str, ...]]:
        """The real path, and every symlink crossed on the way to it.

        Components that do not exist stay as they are, so the result may not exist either; what
        the kernel would give up on (ELOOP) is NOWHERE, never a symlink that this host would follow
        out of the tree. The tree is taken to stand still: what was looked up once is remembered.
        """
        place = path if path.startswith("/") or not base else f"{base}/{path}"
        if place not in self._resolved:
            self._resolved[place] = self._looked_up(place)
        return self._resolved[place]

    def _looked_up(self, path: str) -> tuple[str, tuple[str, ...]]:
        todo = path.split("/")
        done: list[str] = []
        crossed: list[str] = []
        while todo:
            part = todo.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                done = done[:-1]
                continue
            done.append(part)
            place = "/".join(done)
            target = self._link(place)
            if target is None:
                continue
            if len(crossed) >= MOST_HOPS:
                return NOWHERE, ()
            crossed.append(place)
            done = [] if target.startswith("/") else done[:-1]
            todo = [*target.split("/"), *todo]
        return "/".join(done), tuple(crossed)

    def _link(self, place: str) -> str | None:
        if place not in self._links:
            try:
                self._links[place] = os.readlink(self.full(place))
            except (OSError, ValueError):
                self._links[place] = None
        return self._links[place]

    def target(self, path: str) -> str:
        """Where a symlink (resolved path) points, as written; '' where it is none."""
        return self._link(path) or ""

    def status(self, path: str) -> os.stat_result | None:
        """lstat of a resolved path, None when it is not there."""
        try:
            return os.lstat(self.full(path))
        except (OSError, ValueError):
            return None

    def is_file(self, path: str) -> bool:
        """Whether `path` leads to a regular file."""
        found = self.status(self.resolve(path)[0])
        return found is not None and stat.S_ISREG(found.st_mode)

    def is_folder(self, path: str) -> bool:
        """Whether `path` leads to a folder."""
        found = self.status(self.resolve(path)[0])
        return found is not None and stat.S_ISDIR(found.st_mode)

    def open_to_all(self, path: str) -> bool:
        """Whether everybody may read a regular file (a resolved path) by its mode and those of the
        folders above it."""
        found = self.status(path)
        return found is not None and bool(found.st_mode & 0o004) and self.reached_by_all(path)

    def reached_by_all(self, path: str) -> bool:
        """Whether everybody may come to a resolved path by the modes of the folders above it."""
        above = map(self.status, folders_above(path))
        return all(folder is not None and folder.st_mode & 0o001 for folder in above)

    def read(self, path: str, most: int = 1 << 30) -> bytes:
        """The first bytes of the regular file that `path` leads to; nothing where it is none."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            handle = os.open(self.full(self.resolve(path)[0]), flags)
        except (OSError, ValueError):
            return b""
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(handle)
            return file.read(min(most, found.st_size)) if stat.S_ISREG(found.st_mode) else b""

    def names(self, folder: str) -> list[str]:
        """What is in the folder that `folder` leads to, sorted."""
        real = self.resolve(folder)[0]
        if real not in self._names:
            try:
                self._names[real] = sorted(os.listdir(self.full(real)))
            except (OSError, ValueError):
                self._names[real] = []
        return self._names[real]

    def below(self, folder: str) -> Iterator[str]:
        """Every file and link below a folder (not the folders), without following links."""
        stack = [self.resolve(folder)[0]]
        while stack:
            here = stack.pop()
            for name in self.names(here):
                path = f"{here}/{name}" if here else name
                found = self.status(path)
                if found is None:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    stack.append(path)
                else:
                    yield path

    def matching(self, pattern: str) -> list[str]:
        """Paths that a shell's pattern names; the pattern itself where it has no wildcard."""
        found = [""]
        for part in pattern.strip("/").split("/"):
            if not any(char in part for char in "*?["):
                found = [f"{place}/{part}".strip("/") for place in found]
                continue
            found = [
                f"{place}/{name}".strip("/")
                for place in found
                for name in self.names(place)
                if fnmatch.fnmatchcase(name, part)
                and (not name.startswith(".") or part.startswith("."))
            ][:10_000]
        return [path for path in found if self.status(self.resolve(path)[0]) is not None]

    def program(self, name: str, search: tuple[str, ...] = PROGRAM_PATH) -> str | None:
        """The program that a shell would run for `name`, None where there is none."""
        places = [name] if "/" in name else [f"{folder}/{name}" for folder in search]
        for place in places:
            real = self.resolve(place)[0]
            found = self.status(real)
            if found is not None and stat.S_ISREG(found.st_mode) and found.st_mode & 0o111:
                return place.strip("/")
        return None


def folders_above(path: str) -> Iterator[str]:
    """The folders above a resolved path, but for the root."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))
