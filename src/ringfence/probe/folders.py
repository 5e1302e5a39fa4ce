"""Folders in which a workload may write and execute, sought in its view from outside.

Sought by mode alone, when the usual places have all failed: what is found is tried inside. Whether
everything was looked at is said, since only then it closes anything that none was found.
"""

from __future__ import annotations

import functools
import os
import stat
from collections import deque

from ringfence.model.mounts import KERNEL, answers
from ringfence.model.process import Credentials, Mount, Process

ACL = "system.posix_acl_access"
WRITE, SEARCH = 2, 1
MOST_LOOKED_AT, MOST_FOUND = 20_000, 16


class Folders:
    """Those of one process: `root` leads to its root folder, as /proc/PID/root does."""

    def __init__(self, process: Process, root: str) -> None:
        self._process = process
        self._root = root

    @property
    def found(self) -> tuple[str, ...]:
        """Those that it seems to be allowed to write, at most MOST_FOUND."""
        return self._sought[0]

    @property
    def whole(self) -> bool:
        """Whether there are no others."""
        return self._sought[1]

    @functools.cached_property
    def _sought(self) -> tuple[tuple[str, ...], bool]:
        own, mounts = self._process.credentials.value, self._process.mounts.value
        if own is None or mounts is None:
            return (), False
        top = {item.path: item for item in mounts}  # the last one covers those before
        usable = [item for item in top.values() if _usable(item)]
        walk = _Walk(self._root, own, frozenset(top))
        walk.through([item.path for item in usable if not answers(item)])
        return tuple(walk.found), walk.whole and not any(map(answers, usable))


def _usable(mount: Mount) -> bool:
    return not {"ro", "noexec"} & mount.options and mount.fstype not in KERNEL


class _Walk:
    """A search through folders, mount by mount, that goes where the process itself could go."""

    def __init__(self, root: str, own: Credentials, mounts: frozenset[str]) -> None:
        self._root, self._own, self._mounts = root, own, mounts
        self.found: list[str] = []
        self.whole = True

    def through(self, paths: list[str]) -> None:
        """Look through everything below these paths, but for other mounts."""
        queue = deque(paths)
        for _ in range(MOST_LOOKED_AT):
            if not queue or len(self.found) >= MOST_FOUND:
                break
            try:
                queue += self._below(queue.popleft())
            except FileNotFoundError:
                continue
            except OSError:
                self.whole = False
        if queue:
            self.whole = False

    def _below(self, path: str) -> list[str]:
        """Look at one folder: those in it that can be reached. Raises OSError."""
        real = f"{self._root}{path}"
        info = os.stat(real, follow_symlinks=False)
        if not stat.S_ISDIR(info.st_mode) or not self._may(real, info, SEARCH):
            return []
        if self._may(real, info, WRITE | SEARCH):
            self.found.append(path)
        elif info.st_uid == self._own.uid:
            self.whole = False  # its owner may give itself the right
        with os.scandir(real) as rows:
            names = [row.name for row in rows if row.is_dir(follow_symlinks=False)]
        below = (f"{path.rstrip('/')}/{name}" for name in names)
        return [one for one in below if one not in self._mounts]

    def _may(self, real: str, info: os.stat_result, wanted: int) -> bool:
        """What the mode permits; a list of further users (acl(5)) is not read, but tried."""
        if "CAP_DAC_OVERRIDE" in self._own.usable:
            return True
        shift = 0
        if info.st_uid == self._own.uid:
            shift = 6
        elif info.st_gid in (self._own.gid, *self._own.groups):
            shift = 3
        return info.st_mode >> shift & wanted == wanted or _listed(real)


def _listed(real: str) -> bool:
    try:
        return ACL in os.listxattr(real, follow_symlinks=False)
    except OSError:
        return False  # a file system without such lists
