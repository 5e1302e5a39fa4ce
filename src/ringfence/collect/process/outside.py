"""Directories outside a process's root directory that it still has: an open descriptor, a working
directory, the root directory of a thread that shares no file system state (CLONE_FS of clone(2)).

From such a directory `..` leads on to the top of the tree that it lies in (chroot(2)).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ringfence.collect.process import procfs
from ringfence.model.process import Outside
from ringfence.mountinfo import rows

MOST_LINKS = 50_000
"""Descriptors of all threads that are looked at."""
MOST_DEEP = 4096
"""Steps up from a directory."""

Place = tuple[int, int, int]
"""Mount, device and inode of a directory."""


def outside(pid: int) -> tuple[tuple[Outside, ...], bool]:
    """The directories, and whether all could be looked at. Raises procfs.Vanished."""
    try:
        root = _place(f"/proc/{pid}/root")
        inside = os.readlink(f"/proc/{pid}/root").rstrip("/") + "/"
        mounts = {row.number for row in rows(procfs.whole(pid, "mountinfo"))}
        links = list(_links(pid))
    except OSError:
        return (), False
    found: dict[tuple[str, int], Outside] = {}
    whole = len(links) <= MOST_LINKS
    for link in links[:MOST_LINKS]:
        try:
            text = os.readlink(link)
            if not text.startswith("/"):  # a socket, a pipe and the like
                continue
            mount = _mount(link)
            # A root directory that is no mount's root has neighbours on its own mount.
            within = mount == root[0] and f"{text}/".startswith(inside)
            if mount in mounts or within or (text, mount) in found:
                continue
            if stat.S_ISDIR(os.stat(link).st_mode):
                found[text, mount] = Outside(link, _leads_to_host(link))
        except (FileNotFoundError, ProcessLookupError):
            continue  # closed meanwhile
        except OSError:
            whole = False
    return tuple(found.values()), whole


def _links(pid: int) -> Iterator[str]:
    """Links to what each thread has open, works in and takes for its root. Raises OSError."""
    count = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        top = f"/proc/{pid}/task/{thread}"
        yield from (f"{top}/root", f"{top}/cwd")
        try:
            names = os.listdir(f"{top}/fd")
        except (FileNotFoundError, ProcessLookupError):
            continue
        for name in names:
            yield f"{top}/fd/{name}"
        count += len(names)
        if count > MOST_LINKS:
            return


def _mount(link: str) -> int:
    """The mount that a link of /proc leads to: the number that mountinfo has. Raises OSError."""
    folder, _, name = link.rpartition("/")
    if folder.endswith("/fd"):
        return _number(f"{folder}info/{name}")
    return _place(link)[0]


def _number(fdinfo: str) -> int:
    with open(fdinfo, "rb") as file:
        mount = procfs.fields(file.read().decode("utf-8", "replace")).get("mnt_id")
    if mount is None:
        raise ProcessLookupError(fdinfo)
    return int(mount)


def _place(path: str) -> Place:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return _of(handle)
    finally:
        os.close(handle)


def _of(handle: int) -> Place:
    info = os.fstat(handle)
    return _number(f"/proc/self/fdinfo/{handle}"), info.st_dev, info.st_ino


def _leads_to_host(link: str) -> bool:
    """Whether the top of the tree that a directory lies in is the reader's own root."""
    handle = os.open(link, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        here = _of(handle)
        for _ in range(MOST_DEEP):
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
            os.close(handle)
            handle = above
            there = _of(handle)
            if there == here:
                break
            here = there
    finally:
        os.close(handle)
    own = os.stat("/")
    return here[1:] == (own.st_dev, own.st_ino)
