"""Which path a file has in the target, whatever the namespace that it is opened from shows it as.

Where the target's file system is marked, files come from mounts of other namespaces, too: a mount
that is the root there shows `/bin/sh` for what is TARGET/bin/sh here.
"""

from __future__ import annotations

import os

from ringfence.watch.live.handles import key_of, open_key

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC


class Names:
    """Paths below `prefix`, where the target's root is; b'' for a root of another namespace, below
    which all paths are."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._root = -1
        if prefix:
            try:
                self._root = os.open(prefix, _FOLDER)
            except OSError:  # it is covered, or gone: other namespaces' paths stay strange
                self._root = -1

    def path(self, fd: int, shown: bytes, info: os.stat_result) -> bytes | None:
        """The path from the target's root of the file of a descriptor that the kernel shows as
        `shown`. None: it has none there."""
        found = self._below(shown)
        if found is None and self._root >= 0:
            found = self._as_root(shown, info)
            return self._by_handle(fd) if found is None else found
        return found

    def _below(self, shown: bytes) -> bytes | None:
        if (shown + b"/").startswith(self._prefix + b"/"):
            return shown[len(self._prefix) :].strip(b"/")
        return None

    def _as_root(self, shown: bytes, info: os.stat_result) -> bytes | None:
        """Where the target is the root of the other namespace: overlays have no handles."""
        path = shown.strip(b"/")
        try:
            there = os.stat(path, dir_fd=self._root, follow_symlinks=False)
        except OSError:
            return None
        return path if os.path.samestat(there, info) else None

    def _by_handle(self, fd: int) -> bytes | None:
        try:
            handle = open_key(self._root, key_of(fd))
        except OSError:
            return None
        try:
            if not os.path.samestat(os.fstat(handle), os.fstat(fd)):
                return None  # of another file system than the target's
            return self._below(os.readlink(b"/proc/self/fd/%d" % handle))
        except OSError:
            return None
        finally:
            os.close(handle)
