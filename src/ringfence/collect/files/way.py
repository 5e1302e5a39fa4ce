"""The way to a file below a root directory that others write in: every folder on it and the file
itself, looked at by descriptor. No link leads out of that root, nor does one that is put in the
way meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from ringfence import acl
from ringfence.model.files import Step

MOST_HOPS = 40
"""Links that a path leads through: the kernel's own limit (path_resolution(7))."""
MOST_DEEP = 256
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

Shuns = Callable[[str], str]
"""Why a path is not to be looked at; '' where it is."""


def anything(_path: str) -> str:
    """Shuns nothing."""
    return ""


@contextlib.contextmanager
def leading_to(
    root: str, path: bytes, shuns: Shuns = anything
) -> Iterator[tuple[int, tuple[Step, ...]]]:
    """A descriptor of `path` (opened with O_PATH) as whoever has `root` for its root directory
    finds it, and the steps to it: each folder that is passed, then the file itself.

    Raises OSError; EREMOTE before a path is looked at that `shuns` gives a reason against.
    """
    way = _Way(root, shuns)
    try:
        way.follow(path)
        yield way.handles[-1], tuple(way.steps)
    finally:
        for handle in way.handles:
            os.close(handle)


class _Way:
    """How far the way has led: the folders from the root to here, open, and their names."""

    def __init__(self, root: str, shuns: Shuns) -> None:
        self.shuns = shuns
        self.handles = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        self.names: list[bytes] = []
        self.steps = [_step(self.handles[0])]

    def follow(self, path: bytes) -> None:
        """Go to the end of `path`."""
        parts = path.split(b"/")
        hops = 0
        while parts:
            part = parts.pop(0)
            if part in (b"", b"."):
                continue
            if part == b"..":
                self._back(max(len(self.names) - 1, 0))
                continue
            target = self._step_to(part)
            if target is None:
                continue
            hops += 1
            if hops > MOST_HOPS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if target.startswith(b"/"):
                self._back(0)
            parts = [*target.split(b"/"), *parts]

    def _step_to(self, part: bytes) -> bytes | None:
        """Go on to `part`; what a link says instead."""
        why = self.shuns(os.fsdecode(b"/" + b"/".join([*self.names, part])))
        if why:
            raise OSError(errno.EREMOTE, why)
        if len(self.handles) > MOST_DEEP:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        handle = os.open(part, _LOOK, dir_fd=self.handles[-1])
        if stat.S_ISLNK(os.fstat(handle).st_mode):
            try:
                return os.readlink(b"", dir_fd=handle)
            finally:
                os.close(handle)
        self.handles.append(handle)
        self.names.append(part)
        self.steps.append(_step(handle))
        return None

    def _back(self, depth: int) -> None:
        while len(self.names) > depth:
            self.names.pop()
            os.close(self.handles.pop())


def _step(handle: int) -> Step:
    info = os.fstat(handle)
    rights = _acl(f"/proc/self/fd/{handle}")
    return Step(info.st_mode, info.st_uid, info.st_gid, info.st_dev, info.st_nlink, rights)


def _acl(path: str) -> tuple[acl.Entry, ...] | None:
    try:
        return acl.entries(os.getxattr(path, acl.ATTRIBUTE))
    except OSError as error:
        return () if error.errno in (errno.ENODATA, errno.EOPNOTSUPP) else None


def text_at(root: str, path: str, most: int, shuns: Shuns = anything) -> str | None:
    """The text of a plain file; None where there is none.

    Raises OSError where it cannot be read, is no plain file or longer than `most` bytes.
    """
    try:
        with leading_to(root, os.fsencode(path), shuns) as (found, steps):
            if not stat.S_ISREG(steps[-1].mode):
                raise OSError(errno.EINVAL, "is no plain file")
            with open(f"/proc/self/fd/{found}", "rb") as file:
                data = file.read(most + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(data) > most:
        raise OSError(errno.EFBIG, f"is longer than {most} bytes")
    return data.decode("utf-8", "replace")


def names_at(root: str, path: str, shuns: Shuns = anything) -> list[str]:
    """The names in a folder, none where there is none. Raises OSError."""
    try:
        with leading_to(root, os.fsencode(path), shuns) as (found, _):
            return sorted(os.listdir(f"/proc/self/fd/{found}"))
    except (FileNotFoundError, NotADirectoryError):
        return []
