"""Other programs that run as a process's user. Names tell nothing: each process chooses its own
(PR_SET_NAME of prctl(2)), and two services may run the same program."""

from __future__ import annotations

import os

from ringfence.collect.process import procfs
from ringfence.collect.process.namespaces import inode_of
from ringfence.model.evidence import Evidence, Grade, Seen

START = slice(23, 26)
"""startcode, endcode and startstack among the fields of `procfs.stat`."""
STACK = 8 << 20
"""Bytes below its top within which a stack that is not put at random starts: words and environment
take three quarters of _STK_LIM at most (fs/exec.c of the kernel)."""
MOST_STEPS = 64
"""Parents of a process that are asked."""

Image = tuple[int, int, str, str, str]


def neighbours(pid: int, uid: int) -> Seen[tuple[str, ...]]:
    """Names of programs that run as the same user, in the same PID namespace; not known where
    none certainly is one, and of some it could not be told.

    What was forked without a new execve(2) is the same program: its workers, or its master.
    """
    source = "/proc/*/status"
    if inode_of(pid, "pid") is None:
        return Seen(None, Evidence(Grade.ASSUMED, f"/proc/{pid}/ns/pid", "may not be read"))
    own = _image_of(pid)
    names: list[str] = []
    doubtful: list[str] = []
    for other in map(procfs.living, procfs.pids()):
        try:
            if other == pid or not _runs_as(other, uid):
                continue
            among, same = _same_space(pid, other), _same_program(pid, own, other)
            name = procfs.read(other, "comm").decode("utf-8", "replace").strip()
        except (OSError, procfs.Vanished):
            continue
        if among is False or same is True:
            continue
        (names if among and same is False else doubtful).append(name)
    if doubtful and not names:
        detail = (
            f"runs as uid {uid}, and may be another program: {', '.join(dict.fromkeys(doubtful))}"
        )
        return Seen(None, Evidence(Grade.ASSUMED, source, detail))
    detail = f"{len(names)} other programs run as uid {uid}"
    return Seen(tuple(dict.fromkeys(names)), Evidence(Grade.OBSERVED, source, detail))


def _same_space(pid: int, other: int) -> bool | None:
    """Whether two processes are in one PID namespace; None where it is not told. Raises OSError or
    Vanished."""
    one, two = inode_of(pid, "pid"), inode_of(other, "pid")
    if one is not None and two is not None:
        return one == two
    # One number for each namespace, from that of /proc down to its own (proc_pid_status(5)).
    depths = {len(_status(each).get("NSpid", "").split()) for each in (pid, other)}
    if len(depths) > 1 and 0 not in depths:
        return False
    return True if depths == {1} else None


def _same_program(pid: int, own: Image | None, other: int) -> bool | None:
    """Whether another process runs what this one's execve(2) started; None where it is not told.
    Raises OSError or Vanished."""
    image = _image(other)
    if own is None or image is None:
        return None
    if image != own:
        return False
    if not _at_fixed_place(own) or _eldest(pid, own) == _eldest(other, own):
        return True
    return None


def _at_fixed_place(image: Image) -> bool:
    """Whether its stack was not put at random (ADDR_NO_RANDOMIZE of personality(2), or
    kernel.randomize_va_space): where it starts right below the top of what programs may use, a
    power of two, of which ADDR_LIMIT_3GB takes a quarter. Whoever started may change what they
    say of themselves afterwards, not where they were put."""
    start = int(image[-1])
    top = 1 << start.bit_length()
    return any(0 <= end - start < STACK for end in (top, top // 4 * 3))


def _eldest(pid: int, image: Image) -> int:
    """The uppermost of its parents from which on all run this image: a master, or itself."""
    for _ in range(MOST_STEPS):
        fields = procfs.stat(pid)
        parent = int(fields[1]) if fields else 0
        if not parent or _image_of(parent) != image:
            break
        pid = parent
    return pid


def _image_of(pid: int) -> Image | None:
    """None for one that has ended, too."""
    try:
        return _image(pid)
    except OSError:
        return None


def _status(pid: int) -> dict[str, str]:
    return procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))


def _runs_as(pid: int, uid: int) -> bool:
    """Whether its effective user is `uid`. Raises OSError or Vanished."""
    owner = os.stat(f"/proc/{pid}").st_uid
    if owner == uid or owner != 0:
        return owner == uid
    # What may not be dumped seems to be root's (proc_pid(5)).
    return int(_status(pid)["Uid"].split()[1]) == uid


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
