"""The way to a Unix socket's file: which folders whoever connects by it has to pass.

The service chooses the file's name, and may rename it and put another file there; and the folders
on the way are passed by nobody who comes to the file through another mount.
"""

from __future__ import annotations

import contextlib
import os
import stat

from ringfence.collect.files.way import leading_to
from ringfence.collect.process import procfs
from ringfence.collect.process.namespaces import inode_of
from ringfence.collect.process.sockdiag import Place, bound_files
from ringfence.model.files import Step
from ringfence.mountinfo import Row, rows


class SocketFiles:
    """Looks for files during one look at a workload: tables of /proc are read once."""

    def __init__(self) -> None:
        self._bound: dict[int, dict[int, Place]] = {}
        self._seen_by: dict[int, list[Row]] = {}
        self._mounts: dict[int, list[Row]] = {}

    def way(self, inode: int, name: bytes, pid: int, thread: int) -> tuple[Step, ...]:
        """The folders to the file `name`, as process `pid` sees it, of a socket in the network
        namespace of `thread`, and the file.

        Empty where the file that the socket is bound to was not seen there. Folders above another
        file system are passed over, for it may be mounted elsewhere too, where they do not lie
        above it; so are those that lie above another mount of the file, and all where the file has
        another name.
        """
        if not name.startswith(b"/"):
            return ()
        if thread not in self._bound:
            self._bound[thread] = bound_files(thread)
        bound = self._bound[thread].get(inode)
        if bound is None:
            return ()
        try:
            with leading_to(f"/proc/{pid}/root", name) as (handle, steps):
                if not _is(handle, bound):
                    return ()
                kept = self._always_passed(handle, pid)
        except (OSError, ValueError):  # ValueError: kernels before 4.10 print a NUL as it is
            return ()
        *folders, file = steps
        if file.links > 1:
            return (file,)
        if kept is not None:
            folders = folders[len(folders) - min(kept, len(folders)) :]
        return (*(step for step in folders if step.device == file.device), file)

    def _always_passed(self, handle: int, pid: int) -> int | None:
        """How many folders right above an open file lie above it in every mount of the process's
        mount namespace; None where the file's own mount alone leads to it: all on the way."""
        space = inode_of(pid, "mnt")
        if space is None:
            return 0
        try:
            if pid not in self._seen_by:
                self._seen_by[pid] = rows(procfs.whole(pid, "mountinfo"))
            if space not in self._mounts:
                self._mounts[space] = _all_mounts(space)
            own = _mount_of(handle, self._seen_by[pid])
            place = _place(handle, pid, own) if own is not None else None
        except (OSError, procfs.Vanished):
            return 0
        if own is None or place is None:
            return 0
        return always_passed(place, own, [*self._seen_by[pid], *self._mounts[space]])


def always_passed(place: bytes, own: Row, table: list[Row]) -> int | None:
    """As above, of the file at `place` in the file system that `own` is a mount of. Pure."""
    depth = _depth(place)
    others = [
        depth - _depth(row.root)
        for row in table
        if row.number != own.number and row.device == own.device and _leads(row.root, place)
    ]
    return min([*others, depth - _depth(own.root)]) if others else None


def _leads(root: bytes, place: bytes) -> bool:
    return root == place or place.startswith(root.rstrip(b"/") + b"/")


def _depth(path: bytes) -> int:
    return sum(map(bool, path.split(b"/")))


def _is(handle: int, bound: Place) -> bool:
    """Whether an open file is the one that a socket is bound to."""
    info = os.fstat(handle)
    return stat.S_ISSOCK(info.st_mode) and (info.st_ino & 0xFFFFFFFF, info.st_dev) == bound


def _mount_of(handle: int, table: list[Row]) -> Row | None:
    """The mount that a file was opened in; None where the table does not have it. Raises OSError,
    or procfs.Vanished."""
    number = procfs.fields(procfs.read("self", f"fdinfo/{handle}").decode()).get("mnt_id", "")
    return next((row for row in table if str(row.number) == number), None)


def _place(handle: int, pid: int, mount: Row) -> bytes | None:
    """Where in its file system an open file lies. Both links are told from our own root directory,
    the mount's point from the process's. Raises OSError."""
    root = os.readlink(b"/proc/%d/root" % pid).rstrip(b"/")
    path = os.readlink(b"/proc/self/fd/%d" % handle)
    point = root + mount.point.rstrip(b"/")
    if path != point and not path.startswith(point + b"/"):
        return None
    return mount.root.rstrip(b"/") + path[len(point) :]


def _all_mounts(space: int) -> list[Row]:
    """What is mounted in a mount namespace, as far as the root directories of processes in it lead
    there: a process's own table has nothing that lies outside of its root directory (chroot(2)).

    Raises OSError where a table is there that cannot be read.
    """
    found: list[Row] = []
    seen: set[str] = set()
    for pid in map(procfs.living, procfs.pids()):
        if inode_of(pid, "mnt") != space:
            continue
        with contextlib.suppress(procfs.Vanished, FileNotFoundError):  # it is ending
            root = procfs.link(pid, "root")
            if root not in seen:
                found += rows(procfs.whole(pid, "mountinfo"))
                seen.add(root)
    return found
