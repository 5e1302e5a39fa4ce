"""What confines a process, as far as another one of ours can put it on too: read, not judged.

credentials(7), capabilities(7), namespaces(7), user_namespaces(7), cgroups(7).
"""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.process.namespaces import inode_of
from ringfence.collect.seccomp.live import FilterUnreadable, read_programs
from ringfence.collect.seccomp.tables import native
from ringfence.errors import InputError, MissingError
from ringfence.probe.answered import as_answered, asks

SPACES = {
    "cgroup": 0x02000000, "ipc": 0x08000000, "uts": 0x04000000, "net": 0x40000000,
    "time": 0x00000080, "pid": 0x20000000, "mnt": 0x00020000, "user": 0x10000000,
}  # fmt: skip
"""In the order in which they are joined: the user namespace last, since it takes privileges."""


class Confinement(msgspec.Struct, frozen=True):
    """What is to be put on, read from /proc/PID before anything is joined. Users and groups are
    numbered as in the workload's own user namespace; `spaces` are the namespaces to enter."""

    uids: tuple[int, int, int]
    gids: tuple[int, int, int]
    groups: tuple[int, ...]
    sets: dict[str, int]
    """Capability masks by their names in /proc/PID/status."""
    no_new_privileges: bool
    programs: tuple[bytes, ...]
    spaces: tuple[str, ...]
    cgroups: tuple[str, ...]
    """cgroup.procs files."""
    label: str
    limits: dict[int, tuple[int, int]]
    dumpable: bool = True
    """Whether its files in /proc belong to its user (PR_SET_DUMPABLE(2const))."""
    notes: tuple[str, ...] = ()
    """What cannot be joined."""


ANSWERED = (
    "calls that its filter hands on are refused here as ringfence, which listens, refuses them"
)


def confinement(pid: int) -> Confinement:
    """What confines the process. Raises InputError or MissingError."""
    try:
        fields = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
        spaces = tuple(kind for kind in SPACES if inode_of(pid, kind) != inode_of("self", kind))
        programs = read_programs(pid).programs if fields.get("Seccomp") == "2" else ()
        held = as_answered(pid, programs)
        label = label_of(pid)
        users, groups = _ids(pid, "uid_map"), _ids(pid, "gid_map")
        limits = _limits(procfs.read(pid, "limits").decode())
    except procfs.Vanished:
        raise InputError("there is no such process", where=f"PID {pid}") from None
    except FilterUnreadable as failure:
        raise MissingError(f"its seccomp filters: {failure}", where=f"PID {pid}") from None
    except PermissionError:
        raise MissingError("may not be read", where=f"PID {pid}", remedy="run as root") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=f"PID {pid}") from None
    _refuse_without_root(pid, fields, spaces)
    return Confinement(
        uids=_three(fields["Uid"], users),
        gids=_three(fields["Gid"], groups),
        groups=tuple(_inside(int(word), groups) for word in fields.get("Groups", "").split()),
        sets={name: int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd",
                                                       "CapAmb")},
        no_new_privileges=fields.get("NoNewPrivs") == "1",
        programs=held,
        spaces=spaces,
        cgroups=_cgroups(pid),
        label=label,
        limits=limits,
        dumpable=os.stat(f"/proc/{pid}").st_uid == int(fields["Uid"].split()[1]),
        notes=(*_unjoined(fields, held, narrow=_is_narrow(f"/proc/{pid}/exe")),
               *((ANSWERED,) if held != programs else ())),
    )  # fmt: skip


_LIMITS = {
    "Max open files": resource.RLIMIT_NOFILE, "Max processes": resource.RLIMIT_NPROC,
    "Max core file size": resource.RLIMIT_CORE, "Max locked memory": resource.RLIMIT_MEMLOCK,
    "Max file size": resource.RLIMIT_FSIZE, "Max msgqueue size": resource.RLIMIT_MSGQUEUE,
    "Max nice priority": resource.RLIMIT_NICE,
}  # fmt: skip


def _limits(text: str) -> dict[int, tuple[int, int]]:
    """Soft and hard limits from /proc/PID/limits: prlimit(2) on another user's process would ask
    for CAP_SYS_RESOURCE."""
    found = {}
    for line in text.splitlines()[1:]:
        kind = _LIMITS.get(line[:25].strip())
        if kind is not None:
            soft, hard = (resource.RLIM_INFINITY if word == "unlimited" else int(word)
                          for word in line[25:].split()[:2])  # fmt: skip
            found[kind] = (soft, hard)
    return found


def _refuse_without_root(pid: int, fields: dict[str, str], spaces: tuple[str, ...]) -> None:
    if os.geteuid() == 0:
        return
    if spaces or fields.get("Seccomp") != "0" or int(fields["Uid"].split()[1]) != os.geteuid():
        raise MissingError(
            "it stands in namespaces, under a filter or as a user of its own",
            where=f"PID {pid}", remedy="run as root (sudo)",
        )  # fmt: skip


def _is_narrow(path: str) -> bool:
    """Whether a file is a 32-bit program (EI_CLASS, elf(5))."""
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        return stream.read(len(NARROW)) == NARROW
    return False


NARROW = b"\x7fELF\x01"


def _unjoined(
    fields: dict[str, str], programs: tuple[bytes, ...], *, narrow: bool
) -> tuple[str, ...]:
    """A process of ours has descriptors and a terminal of its own."""
    notes = ["open descriptors, the controlling terminal and a Landlock domain are the process's "
             "own: --inject sees them"]  # fmt: skip
    if any(asks(program) for program in programs):
        notes.append(
            "its filter asks another process about some calls: what that would answer is not seen"
        )
    if narrow:
        notes.append(f"it is a 32-bit program: what is tried is made in calls of {native()}, and "
                     "its filters alone are asked about its own")  # fmt: skip
    if fields.get("TracerPid", "0") != "0":
        notes.append(f"process {fields['TracerPid']} traces it: what that refuses is not seen")
    if fields.get("Seccomp") == "1":
        notes.append("seccomp's strict mode is not joined")
    return tuple(notes)


def label_of(pid: int) -> str:
    """What a security module confines it by; '' where none does."""
    try:
        text = procfs.read(pid, "attr/current").decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""
    return "" if text.startswith("unconfined") or text == "kernel" else text


def _ids(pid: int, name: str) -> list[tuple[int, int, int]]:
    """Rows (inside, outside, count) of a map of its user namespace (user_namespaces(7))."""
    rows = procfs.read(pid, name).decode().splitlines()
    return [(int(a), int(b), int(c)) for a, b, c in (row.split() for row in rows)]


def _inside(number: int, rows: list[tuple[int, int, int]]) -> int:
    for inside, outside, count in rows:
        if outside <= number < outside + count:
            return inside + number - outside
    return number


def _three(text: str, rows: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    real, effective, saved, _ = (_inside(int(word), rows) for word in text.split())
    return real, effective, saved


def _cgroups(pid: int) -> tuple[str, ...]:
    """Where its device cgroup (version 1) and its cgroup of version 2 take members."""
    found = []
    for row in procfs.rows(procfs.read(pid, "cgroup")):
        _, controllers, path = row.split(":", 2)
        places = {"devices": ["devices"], "": ["", "unified"]}.get(controllers, [])
        for place in places:
            file = Path("/sys/fs/cgroup", place, path.lstrip("/"), "cgroup.procs")
            if file.is_file():
                found.append(str(file))
    return tuple(found)
