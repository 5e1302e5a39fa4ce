"""What a container's engine puts beside the files of its image, which no image's baseline has.

Told by what is mounted there as the container's mount table says, and never by a name alone, so
that nothing can be hidden behind it: the kernel's own file systems at their places; an engine's
file that this host has in the engine's folder, with the same inode on the same file system; and
what holds nothing: folders above mount points, an empty /.dockerenv, /etc/mtab's symlink. The root
of another file system over an image's folder is listed as not entered, and its attributes are told
apart: they are not the folder's.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ringfence.mountinfo import Row, rows
from ringfence.watch.baseline.compare import Change
from ringfence.watch.baseline.entry import DIRECTORY, FILE, LINK, Entry
from ringfence.watch.baseline.items import shown
from ringfence.watch.baseline.store import Header
from ringfence.watch.baseline.targets import Target

KERNEL = {b"proc": (b"proc",), b"sys": (b"sysfs",), b"dev": (b"tmpfs", b"devtmpfs")}
"""Path -> types of file systems that engines mount there (runtime-spec, config-linux.md)."""
FILES = frozenset({b"etc/hosts", b"etc/hostname", b"etc/resolv.conf", b"run/.containerenv"})
_ID = rb"[0-9a-f]{64}"
_FOLDERS = re.compile(
    rb"/(?:[a-z0-9]+-containers/" + _ID + rb"/userdata|docker/containers/" + _ID
    + rb"|io\.containerd\.grpc\.v1\.cri/sandboxes/" + _ID
    + rb")/(?:hosts|hostname|resolv\.conf|\.containerenv)\Z"
    + rb"|/kubelet/pods/[0-9a-f-]{36}/etc-hosts\Z"
)  # fmt: skip
"""Where podman, docker, containerd and the kubelet keep what they mount at `FILES`."""
SPECIAL = 0o7111
"""Bits of a mode that none of `FILES` has: whoever is root inside may write to them."""
_WRITE = 0o222
NAMED = 12


class Provided:
    """Takes note of what the engine provided. `mounts` is the container's table, with points from
    its root; `own` is this process's."""

    def __init__(self, mounts: list[Row], own: list[Row]) -> None:
        self._points: dict[bytes, Row | None] = {}
        for row in mounts:
            point = row.point.strip(b"/")
            # Of several at one place it is not plain which one is seen: then neither is told apart.
            self._points[point] = None if point in self._points else row
        self._own = own
        self._found: list[bytes] = []
        self._covered: list[bytes] = []

    def has(self, change: Change) -> bool:
        """Whether the engine provided this difference; `note` then tells of it."""
        path = change.path
        if self._is(path, change.old, change.new):
            self._found.append(path)
        elif self._covered_folder(path, change.old, change.new):
            self._covered.append(path)
        else:
            return False
        return True

    def _is(self, path: bytes, old: Entry | None, new: Entry | None) -> bool:
        if new is None:
            above = path.partition(b"/")[0]
            return above != path and self._kernel(above)
        if new.kind == DIRECTORY:
            return self._folder(path, old, new)
        if path in FILES and new.kind == FILE and not (new.mode or 0) & SPECIAL:
            return self._engines(self._points.get(path), new)
        if old is not None:
            return False
        if path == b".dockerenv":
            return new.kind == FILE and new.size == 0
        return path == b"etc/mtab" and new.kind == LINK and new.target == b"/proc/mounts"

    def _folder(self, path: bytes, old: Entry | None, new: Entry) -> bool:
        if old is None:
            plain = (new.mode, new.uid, new.gid) == (0o755, 0, 0)
            above = plain and any(point.startswith(path + b"/") for point in self._points)
            return above or self._kernel(path)
        if not path:  # podman takes away write permission of the root
            mode = None if old.mode is None else old.mode & ~_WRITE
            return (new.mode, new.uid, new.gid) == (mode, old.uid, old.gid)
        return old.kind == DIRECTORY and self._kernel(path)

    def _covered_folder(self, path: bytes, old: Entry | None, new: Entry | None) -> bool:
        """Whether what differs are attributes of the root of another file system, which is not
        entered, and not those of the image's folder beneath. What that holds is then missed."""
        both = old is not None and new is not None and old.kind == new.kind == DIRECTORY
        return both and bool(path) and path in self._points

    def _kernel(self, path: bytes) -> bool:
        row = self._points.get(path)
        return row is not None and row.root == b"/" and row.kind in KERNEL.get(path, ())

    def _engines(self, row: Row | None, new: Entry) -> bool:
        """Whether what is mounted there is a file in an engine's folder of this host."""
        if row is None:
            return False
        for own in self._own:
            above = own.root.rstrip(b"/")
            if own.device != row.device or not row.root.startswith(above + b"/"):
                continue
            place = own.point.rstrip(b"/") + row.root[len(above) :]
            if _FOLDERS.search(place) and _inode(place) == new.inode:
                return True
        return False

    def notes(self) -> tuple[str, ...]:
        """What was found, in words."""
        found = []
        if self._found:
            found.append(
                f"put there by the container's engine, and not compared: {_names(self._found)}"
            )
        if self._covered:
            found.append(
                f"mounted over a folder of the image, which is not seen: {_names(self._covered)}"
            )
        return tuple(found)


def _names(paths: list[bytes]) -> str:
    names = ", ".join(shown(b"/" + path)[0] for path in sorted(paths)[:NAMED])
    return names if len(paths) <= NAMED else f"{names} and {len(paths) - NAMED} more"


def _inode(place: bytes) -> int | None:
    try:
        return os.lstat(place).st_ino
    except OSError:
        return None


def provided(target: Target, header: Header) -> Provided | None:
    """What tells an engine's files apart where a container is held against its image."""
    if target.kind not in ("container", "process") or header.kind not in ("image", "archive"):
        return None
    try:
        own = rows(Path("/proc/self/mountinfo").read_bytes())
    except OSError:
        own = []
    return Provided(target.mount_table(), own)
