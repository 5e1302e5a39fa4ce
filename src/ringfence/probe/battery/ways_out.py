"""Ways out of the root by folders that the process has already: held open, or worked in.

Where such a folder lies is asked past its filters, since an attacker need not ask; whether anything
may be done with it is then asked of the filters, for each call that begins a path at it. Only a
child of ours moves, and nothing is opened.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from ringfence.probe.definition import (
    AT_FDCWD,
    Inside,
    Outcome,
    Probe,
    closed,
    opened,
    undecided,
    unsupported,
)
from ringfence.probe.driven import Argument, Driven
from ringfence.probe.oracle import Answer

GROUP = "files"
PATH_MAX = 4096
UNREACHABLE = b"(unreachable)"
"""What getcwd(2) puts before a folder that its root does not lead to (getcwd(3), NOTES)."""
MOST_TRIED, MOST_LEVELS = 4096, 256
"""Descriptors of files and folders that are tried, and steps up from a folder without a name."""
O_RDONLY, O_FOLDER = 0, 0o2200000
"""The second: O_DIRECTORY and O_CLOEXEC."""
HERE = "."
ENTRY = "ringfence-entry"
Form = tuple[str, tuple[Argument, ...]]
HOW = struct.pack("=QQQ", O_FOLDER, 0, 0)


def _uses(handle: int) -> Iterator[Form]:
    """Calls that begin at a folder: those that read it first."""
    yield "openat", (handle, HERE, O_RDONLY | O_FOLDER, 0)
    yield "openat2", (handle, HERE, HOW, len(HOW))
    yield "execveat", (handle, ENTRY, 0, 0, 0)
    yield "open_tree", (handle, HERE, 1)
    for name in ("mkdirat", "unlinkat"):
        yield name, (handle, ENTRY, 0)
    yield "mknodat", (handle, ENTRY, 0o100600, 0)
    yield "symlinkat", (ENTRY, handle, ENTRY)
    yield "linkat", (handle, ENTRY, handle, ENTRY, 0)
    yield "renameat", (handle, ENTRY, handle, ENTRY)
    yield "renameat2", (handle, ENTRY, handle, ENTRY, 0)


def _by_path(path: str) -> Iterator[Form]:
    """Calls that take a path alone."""
    yield "chdir", (path,)
    yield "open", (path, O_RDONLY | O_FOLDER, 0)
    yield "execve", (f"{path}/{ENTRY}", 0, 0)


def open_folders(inside: Inside) -> Outcome:
    """Goes to each folder that the process holds open and asks for its name: one that lies outside
    its root is a way out (CVE-2024-21626). Only a child of ours moves; whether filters let a path
    begin there is asked, and none does."""
    if not inside.view.owns:
        return unsupported("descriptors are the process's own: --inject sees them")
    handles = _handles(inside.child.pid)
    folders, unknown, refused = 0, 0, None
    for handle in handles[:MOST_TRIED]:
        if inside.child.manage("fchdir", handle) < 0:
            continue
        folders += 1
        outside = _outside(inside.child)
        unknown += outside is None
        if outside:
            found = _used(inside, _from_handle(inside.child, handle),
                          f"descriptor {handle} is a folder outside its root")  # fmt: skip
            if found.layer == "":  # open, or not known
                return found
            refused = refused or found
    if len(handles) > MOST_TRIED:
        return undecided(f"{len(handles) - MOST_TRIED} descriptors were not tried")
    if unknown:
        return undecided(f"where {unknown} of {folders} open folders lie")
    return refused or closed("namespace (mnt)", f"{folders} open folders, all below its root")


def _handles(pid: int) -> list[int]:
    """Descriptors of what has a path: no sockets, pipes and the like (proc_pid_fd(5))."""
    folder = f"/proc/{pid}/fd"
    return sorted(int(name) for name in os.listdir(folder)
                  if os.readlink(f"{folder}/{name}").startswith("/"))  # fmt: skip


def _outside(child: Driven) -> bool | None:
    """Whether its root does not lead to where it stands; None where that cannot be told. A folder
    that was removed, or whose path is too long, has no name, and lies where the one above does."""
    room = bytearray(PATH_MAX)
    for _ in range(MOST_LEVELS):
        if child.manage("getcwd", room, len(room)) >= 0:
            return bytes(room).startswith(UNREACHABLE)
        if child.manage("chdir", "..") < 0:
            return None
    return None


def _from_handle(child: Driven, handle: int) -> list[Form]:
    forms: list[Form] = [("fchdir", (handle,)), *_uses(handle)]
    link = f"/proc/self/fd/{handle}"
    if child.manage("chdir", link) >= 0:
        forms += _by_path(link)
    return forms


def _used(inside: Inside, forms: list[Form], what: str) -> Outcome:
    """Whether filters let one of these calls through."""
    verdicts = [(name, inside.passes(name, *arguments)) for name, arguments in forms]
    passing = [name for name, verdict in verdicts if verdict.passes]
    if passing:
        return opened(f"{what}: {passing[0]} begins there")
    if any(verdict.answer is Answer.ASK for _, verdict in verdicts):
        return undecided(f"{what}, and another process is asked about what begins there")
    return closed(verdicts[0][1].words, what)


def working_folder(inside: Inside) -> Outcome:
    """Asks where it stands: a working folder outside the root is a way out. Whether filters let a
    path begin there is asked, and none does."""
    outside = _outside(inside.child)
    if outside is None:
        return undecided("where its working folder lies")
    if not outside:
        return closed("namespace (mnt)", "it lies below its root")
    forms = [*_uses(AT_FDCWD), *_by_path("..")]
    return _used(inside, forms, "its working folder lies outside its root")


PROBES = (
    Probe("file.open-folders", GROUP, "Leave by a folder that it holds open", "T1611",
          open_folders),
    Probe("file.working-folder", GROUP, "Leave by its working folder", "T1611", working_folder),
)  # fmt: skip
