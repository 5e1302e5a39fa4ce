"""The growing set of files to keep, each with the first reason that was found for it."""

from __future__ import annotations

import stat
from collections.abc import Callable

from ringfence.collect.files.programs import class_of
from ringfence.harden.keep.readable import leads_out, open_along
from ringfence.harden.tree import Tree

NEVER = ("proc", "sys", "dev")
"""File systems that the engine mounts: whatever an archive has there is not used."""


UNWANTED = ("shell", "package-manager", "compiler")
"""Classes of programs that are left out unless the service itself ran them."""


class Kept:
    """Paths (relative to the root, real) -> reason. Links and folders on the way come along."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.reasons: dict[str, str] = {}
        self.dropped: tuple[str, ...] = ()
        """Folders and files that the user wants gone; they win over every reason."""
        self.live: set[str] = set()
        """Files that the service reads as its configuration, as far as that is known."""
        self.parsed: set[str] = set()
        """Sources whose imports are kept already."""
        self.application: set[str] = set()
        """Files that are kept for their place in the application's folder alone."""
        self.passed_over: dict[str, str] = {}
        """Folders that are meant as content and were not kept whole -> why."""
        self.memory: dict[str, str] = {}
        """Folders in memory that scripts of the service's own may want to write -> why."""
        self.tools: frozenset[str] = frozenset()
        """Shells, compilers and package managers (real paths) that the service itself runs:
        all others are left out, whatever names them."""

    def add(self, path: str, reason: str) -> str | None:
        """Keep what `path` leads to; its real path if that is a file not kept before.

        Folders are kept as such, empty: `add_below` keeps what is in them.
        """
        real, crossed = self.tree.resolve(path)
        if self.unwanted(real):
            return None
        found = self.tree.status(real)
        if found is None:
            return None
        for link in crossed:
            if not self.unwanted(link):
                self.reasons.setdefault(link, f"the way to {real}: {reason}")
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            return None
        if not real or real in self.reasons:
            return None
        self.reasons[real] = reason
        return real if stat.S_ISREG(found.st_mode) else None

    def add_below(
        self, folder: str, reason: str, fitting: Callable[[str], bool] | None = None
    ) -> list[str]:
        """Keep a folder with all that is in it, or what of it (paths of files and links) is
        `fitting`; the files that were not kept before. Of what links in it lead to elsewhere, only
        what everybody may read."""
        real = self.tree.resolve(folder)[0]
        self.add(folder, reason)
        found = []
        for path in self.tree.below(real):
            if fitting is not None and not fitting(path):
                continue
            if leads_out(self.tree, path, real) and not open_along(self.tree, path):
                continue
            added = self.add(path, reason)
            if added is not None:
                found.append(added)
        return found

    def files(self) -> list[str]:
        """Regular files among what is kept."""
        return [
            path
            for path in self.reasons
            if (found := self.tree.status(path)) is not None and stat.S_ISREG(found.st_mode)
        ]

    def unwanted(self, path: str) -> bool:
        """Whether a real path stays out, whatever needs it."""
        if path.partition("/")[0] in NEVER:
            return True
        if class_of(path) in UNWANTED and self.tree.resolve(path)[0] not in self.tools:
            return True
        return self.is_dropped(path)

    def is_dropped(self, path: str) -> bool:
        """Whether the user wants a real path gone."""
        return any(path == item or path.startswith(f"{item}/") for item in self.dropped)
