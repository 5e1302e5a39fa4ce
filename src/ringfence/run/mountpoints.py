"""The folders of an unpacked image on which a container has something mounted.

An engine makes those that are missing, and the working directory, as it starts a container: in
the very root that all containers of the image share, and for good. So all are made as the image is
unpacked, and none may be missing when a container begins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ringfence.errors import InputError, UsageError
from ringfence.run.fence import ID_BASE, Volume, Writable
from ringfence.run.unpack import open_inside

SYSTEM = ("dev", "proc", "sys")
"""Below them engines make what they want, in what is mounted there: they must be no links."""


def check_volumes(volumes: Iterable[Volume], writable: Iterable[Writable]) -> None:
    """Each in place of a writable folder, and of one alone. Raises UsageError."""
    left = {item.path for item in writable}
    declared = ", ".join(f"/{path}" for path in sorted(left)) or "none"
    taken = set()
    for volume in volumes:
        place = f"/{volume.inside}"
        if volume.inside in taken:
            raise UsageError("two volumes for one folder", where=place, remedy="give one")
        if volume.inside not in left:
            raise UsageError(
                f"is no writable folder of the service's (it has {declared})", where=place,
                remedy=f"name one of them, or ringfence harden ... --writable {place}",
            )  # fmt: skip
        taken.add(volume.inside)


def lay(root: Path, paths: Iterable[str]) -> None:
    """Make those of `paths` that are missing, their owner the user namespace's root. Raises
    InputError where something else than a folder is there."""
    with _opened(root) as handle:
        for path in paths:
            parts = path.split("/")
            for count in range(1, len(parts) + 1):
                _make("/".join(parts[:count]), handle)
            _check(path, handle, root, "run what ringfence harden made")


def check(root: Path, paths: Iterable[str]) -> None:
    """That all of `paths` are folders below `root`. Raises InputError."""
    with _opened(root) as handle:
        for path in paths:
            _check(path, handle, root, f"remove {root.parent}, which is unpacked again")


def _make(path: str, root: int) -> None:
    above, _, name = path.rpartition("/")
    # One that is there already, or cannot be since a file or a link is: _check tells them apart.
    with contextlib.suppress(FileExistsError, FileNotFoundError, NotADirectoryError):
        parent = open_inside(root, above, os.O_PATH | os.O_DIRECTORY)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
            os.chown(name, ID_BASE, ID_BASE, dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)


def _check(path: str, root: int, shown: Path, remedy: str) -> None:
    flags = os.O_PATH | os.O_DIRECTORY | (os.O_NOFOLLOW if path in SYSTEM else 0)
    try:
        os.close(open_inside(root, path, flags))
    except OSError as error:
        raise InputError(f"its mount point /{path[:200]} is no folder: {error.strerror}",
                         where=str(shown), remedy=remedy) from None  # fmt: skip


@contextlib.contextmanager
def _opened(root: Path) -> Iterator[int]:
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
