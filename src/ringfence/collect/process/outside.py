"""Directories that a process still has though no path of its own leads there: outside its root
directory, or under another mount. An open descriptor, a working directory, the root directory of a
thread that shares no file system state (CLONE_FS of clone(2)) leads there, and a descriptor of
another mount namespace to whoever may enter it (setns(2)).

From such a directory `..` leads on to the top of the tree that it lies in (chroot(2)).
"""

from __future__ import annotations

import os
import stat

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.process.descriptors import sharing
from ringfence.collect.process.namespaces import inode_in, inode_of, of_host
from ringfence.model.process import Outside
from ringfence.mountinfo import reached, rows

MOST_LINKS = 50_000
"""Descriptors of all tables, root and working directories of all threads that are looked at."""
MOST_DEEP = 4096
"""Steps up from a directory."""

Place = tuple[int, int, int]
"""Mount, device and inode of a directory."""


class View(msgspec.Struct, frozen=True):
    """What paths lead to: the root directory, how the reader sees its path, the inode of the mount
    namespace, the numbers of the mounts in view, these by their points, and the others by the one
    that each is mounted on."""

    root: Place
    inside: str
    namespace: int | None
    seen: set[int]
    points: dict[str, int]
    on: dict[int, list[int]]

    def mount_at(self, text: str) -> int | None:
        """The mount in view at a path as the reader sees it; None outside the root directory."""
        if not f"{text}/".startswith(self.inside):
            return None
        path = "/" + text[len(self.inside) :]
        while path != "/" and path not in self.points:
            path = path.rpartition("/")[0] or "/"
        return self.points.get(path, self.root[0])

    def under(self, first: set[int]) -> tuple[int, ...]:
        """Of mounts that no path leads to the numbers, and those of what is mounted on them."""
        found, queue = set(first), list(first)
        while queue:
            more = [number for number in self.on.get(queue.pop(), ()) if number not in found]
            found.update(more)
            queue += more
        return tuple(sorted(found))


def outside(pid: int) -> tuple[tuple[Outside, ...], bool]:
    """The directories, and whether all could be looked at. Raises procfs.Vanished."""
    try:
        view = _view(pid)
        links, whole = _links(pid)
    except OSError:
        return (), False
    found: dict[tuple[str, int], Outside] = {}
    for link in links:
        try:
            text = os.readlink(link)
            if text.startswith("mnt:["):
                inode = inode_in(text)
                if inode != view.namespace:
                    held = Outside(link, of_host("mnt", inode), namespace=True)
                    found.setdefault((text, 0), held)
                continue
            if not text.startswith("/"):  # a socket, a pipe and the like
                continue
            mount = _mount(link)
            if mount == view.mount_at(text) or (text, mount) in found:
                continue
            if stat.S_ISDIR(os.stat(link).st_mode):
                found[text, mount] = _leads(link, view)
        except (FileNotFoundError, ProcessLookupError):
            continue  # closed meanwhile
        except OSError:
            whole = False
    return tuple(found.values()), whole


def _view(pid: int) -> View:
    """Raises OSError, or procfs.Vanished."""
    table = rows(procfs.whole(pid, "mountinfo"))
    seen = reached(table)
    on: dict[int, list[int]] = {}
    for row in table:
        if row.number not in seen:
            on.setdefault(row.parent, []).append(row.number)
    return View(
        _place(f"/proc/{pid}/root"),
        os.readlink(f"/proc/{pid}/root").rstrip("/") + "/",
        inode_of(pid, "mnt"),
        seen,
        {os.fsdecode(row.point): row.number for row in table if row.number in seen},
        on,
    )


def _links(pid: int) -> tuple[list[str], bool]:
    """Links to what the process has open, works in and takes for its root, each table of
    descriptors once, and whether these are all. Raises OSError, or procfs.Vanished."""
    groups, whole = sharing(pid)
    found: list[str] = []
    for threads in groups:
        for thread in threads:
            top = f"/proc/{pid}/task/{thread}"
            found += (f"{top}/root", f"{top}/cwd")
        for thread in threads:
            top = f"/proc/{pid}/task/{thread}/fd"
            try:
                found += (f"{top}/{name}" for name in os.listdir(top))
            except (FileNotFoundError, ProcessLookupError):
                continue  # that thread has ended, others may use the table
            break
        if len(found) > MOST_LINKS:
            return found[:MOST_LINKS], False
    return found, whole


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


def _leads(link: str, view: View) -> Outside:
    """Where the parents of a directory lead: to the process's own root directory, or to the top of
    another tree, which may be the reader's own root."""
    passed: set[int] = set()
    handle = os.open(link, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        here = _of(handle)
        passed.add(here[0])
        for _ in range(MOST_DEEP):
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
            os.close(handle)
            handle = above
            there = _of(handle)
            if there == view.root:
                return Outside(link, False, view.under(passed))
            if there == here:
                break
            here = there
            if here[0] not in view.seen:
                passed.add(here[0])
    finally:
        os.close(handle)
    own = os.stat("/")
    return Outside(link, here[1:] == (own.st_dev, own.st_ino))
