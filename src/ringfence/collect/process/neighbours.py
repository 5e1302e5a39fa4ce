"""Other programs that run as a process's user. Names tell nothing: each process chooses its own
(PR_SET_NAME of prctl(2)), and two services may run the same program."""

from __future__ import annotations

import os

from ringfence.collect.process import procfs
from ringfence.collect.process.namespaces import inode_of
from ringfence.model.evidence import Evidence, Grade, Seen

START = slice(23, 26)
"""startcode, endcode and startstack among the fields of `procfs.stat`."""

Image = tuple[int, int, str, str, str]


def neighbours(pid: int, uid: int) -> Seen[tuple[str, ...]]:
    """Names of programs that run as the same user, in the same PID namespace.

    What was forked without a new execve(2) is the same program: its workers, or its master.
    """
    source = "/proc/*/status"
    space = inode_of(pid, "pid")
    if space is None:
        return Seen(None, Evidence(Grade.ASSUMED, f"/proc/{pid}/ns/pid", "may not be read"))
    own = _own_image(pid)
    names: list[str] = []
    for other in map(procfs.living, procfs.pids()):
        try:
            if other == pid or not _runs_as(other, uid) or inode_of(other, "pid") not in (
                space, None,  # that may not be read may be the same
            ):  # fmt: skip
                continue
            image = _image(other)
            name = procfs.read(other, "comm").decode("utf-8", "replace").strip()
        except (OSError, procfs.Vanished):
            continue
        if image is None or image != own:
            names.append(name)
    detail = f"{len(names)} other programs run as uid {uid}"
    return Seen(tuple(dict.fromkeys(names)), Evidence(Grade.OBSERVED, source, detail))


def _own_image(pid: int) -> Image | None:
    """Of the process itself; whoever reads it looks at the end whether it has ended meanwhile."""
    try:
        return _image(pid)
    except OSError:
        return None


def _runs_as(pid: int, uid: int) -> bool:
    """Whether its effective user is `uid`. Raises OSError or Vanished."""
    owner = os.stat(f"/proc/{pid}").st_uid
    if owner == uid or owner != 0:
        return owner == uid
    # What may not be dumped seems to be root's (proc_pid(5)).
    fields = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
    return int(fields["Uid"].split()[1]) == uid


def _image(pid: int) -> Image | None:
    """What execve(2) made, the same in all that is forked of it: the file, and where it lies in
    memory, at random. None where that may not be read; raises OSError for what runs no program."""
    fields = procfs.stat(pid)
    try:
        info = os.stat(f"/proc/{pid}/exe")
    except PermissionError:
        return None
    start = fields[START]
    if len(start) < 3 or "0" in start:
        return None
    return info.st_dev, info.st_ino, start[0], start[1], start[2]
