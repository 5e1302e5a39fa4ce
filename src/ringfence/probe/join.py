"""Inside by joining: a process of ours that stands where the workload's process stands.

It enters the workload's cgroup, namespaces, root and working folder, then its limits, filters,
capability sets, users and no_new_privs, executing no file of the workload: images without a shell
are no obstacle. What cannot be joined is said: descriptors, the controlling terminal and a
Landlock domain belong to the process itself (`inject` sees them).

setns(2), credentials(7), capabilities(7), seccomp(2).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.process.credentials import CAPABILITIES
from ringfence.collect.process.namespaces import inode_of
from ringfence.collect.seccomp.live import FilterUnreadable, read_programs
from ringfence.collect.seccomp.tables import native_calls
from ringfence.errors import InputError, MissingError
from ringfence.probe.driven import Driven, adopted
from ringfence.probe.elf import program
from ringfence.probe.oracle import asks
from ringfence.run import kernel, tracee
from ringfence.run.tracee import InjectionFailed

SPACES = {
    "cgroup": 0x02000000, "ipc": 0x08000000, "uts": 0x04000000, "net": 0x40000000,
    "time": 0x00000080, "pid": 0x20000000, "mnt": 0x00020000, "user": 0x10000000,
}  # fmt: skip
"""In the order in which they are joined: the user namespace last, since it takes privileges."""
PATIENCE = 10.0
AT_EMPTY_PATH = 0x1000
SET_MODE_FILTER = 1
PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = (
    4,
    8,
    24,
    38,
    47,
)
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
CAPABILITY_VERSION_3 = 0x20080522


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


@contextlib.contextmanager
def joined(pid: int) -> Iterator[tuple[Driven, tuple[str, ...]]]:
    """A process in the workload's place, standing still, to be driven; and what could not be
    joined. Raises InputError or MissingError."""
    wanted = confinement(pid)
    with _entered(pid, wanted) as (child, program, notes):
        try:
            zygote = _emptied(child, program)
        except InjectionFailed as failure:
            raise InputError(str(failure), where=f"PID {pid}") from None
        with zygote:
            try:
                _put_on(zygote, wanted)
            except InjectionFailed as failure:
                raise InputError(str(failure), where=f"PID {pid}") from None
            yield zygote, (*wanted.notes, *notes, *_unlike(pid, zygote.pid))


def _emptied(child: int, program: int) -> Driven:
    """Our process made into one with nothing of ours in it, before it is given the workload's
    user: whoever is that user may open its program and its memory (CVE-2019-5736). It executes a
    sealed file in memory, of which no instruction is ever run. `program` is its descriptor there.
    """
    tracee.seize(child, tracee.TRACE_EXEC | tracee.EXITKILL)
    tracee.interrupt(child)
    driver = Driven(child, tracee.registers(child))
    try:
        place = tracee.instruction(child, driver.regs, driver.memory)
        # Its own memory still: the empty path lies where a string of ours ends.
        empty = _empty_string(child, driver.memory)
        regs = tracee.prepared(driver.regs, place, native_calls()["execveat"],
                               (program, empty, 0, 0, AT_EMPTY_PATH))  # fmt: skip
        tracee.step(child, regs)
        tracee.onward(child)
        if os.readlink(f"/proc/{child}/exe").partition(" ")[0] != f"/memfd:{NAME}":
            raise InjectionFailed("our process could not be emptied (execveat of a memory file)")
    except BaseException:
        driver.close()
        raise
    driver.forget()
    return adopted(child, tracee.registers(child))


def _empty_string(child: int, memory: int) -> int:
    """The address of a zero byte in its memory: in the header of the vDSO (elf(5))."""
    with open(f"/proc/{child}/maps") as maps:
        for line in maps:
            if line.rstrip().endswith(("[vdso]", "[stack]")):
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                found = os.pread(memory, end - start, start).find(b"\0")
                if found >= 0:
                    return start + found
    raise InjectionFailed("no place for a string")


def confinement(pid: int) -> Confinement:
    """What confines the process. Raises InputError or MissingError."""
    try:
        fields = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
        spaces = tuple(kind for kind in SPACES if inode_of(pid, kind) != inode_of("self", kind))
        programs = read_programs(pid).programs if fields.get("Seccomp") == "2" else ()
        label = _label(pid)
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
        programs=programs,
        spaces=spaces,
        cgroups=_cgroups(pid),
        label=label,
        limits=limits,
        dumpable=os.stat(f"/proc/{pid}").st_uid == int(fields["Uid"].split()[1]),
        notes=_unjoined(fields, programs),
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


def _unjoined(fields: dict[str, str], programs: tuple[bytes, ...]) -> tuple[str, ...]:
    """A process of ours has descriptors and a terminal of its own."""
    notes = ["open descriptors, the controlling terminal and a Landlock domain are the process's "
             "own: --inject sees them"]  # fmt: skip
    if any(asks(program) for program in programs):
        notes.append("its filter asks another process about some calls: joined, those are refused")
    if fields.get("Seccomp") == "1":
        notes.append("seccomp's strict mode is not joined")
    return tuple(notes)


def _label(pid: int) -> str:
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
    for line in procfs.read(pid, "cgroup").decode("utf-8", "surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        places = {"devices": ["devices"], "": ["", "unified"]}.get(controllers, [])
        for place in places:
            file = Path("/sys/fs/cgroup", place, path.lstrip("/"), "cgroup.procs")
            if file.is_file():
                found.append(str(file))
    return tuple(found)


# --- the process of ours -------------------------------------------------------------------------


@contextlib.contextmanager
def _entered(pid: int, wanted: Confinement) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """A process of ours that has entered and waits: its number here, the descriptor of the empty
    program there, and what it says it could not join."""
    try:
        handles = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
                   for kind in wanted.spaces}  # fmt: skip
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        folder = os.open(f"/proc/{pid}/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"cannot be entered: {error.strerror}", where=f"PID {pid}") from None
    empty = _sealed_program()
    said, say = os.pipe()
    held, hold = os.pipe()
    outer = os.fork()
    if outer == 0:
        os.close(hold)
        os.close(said)
        _outer(handles, root, folder, empty, wanted, say, held)
    for handle in (*handles.values(), root, folder, empty, say, held):
        os.close(handle)
    try:
        child, notes = _answered(said, pid)
        yield child, empty, notes
    finally:
        os.close(hold)
        os.close(said)
        # It collects its child first; where it cannot (frozen with the workload), it is ended.
        _reaped(outer)


def _reaped(outer: int) -> None:
    limit = time.monotonic() + 1.0
    while time.monotonic() < limit:
        if os.waitpid(outer, os.WNOHANG)[0]:
            return
        time.sleep(0.002)
    os.kill(outer, signal.SIGKILL)
    os.waitpid(outer, 0)


NAME = "ringfence-empty"


def _sealed_program() -> int:
    """The smallest program in memory, which nobody can change (memfd_create(2)). Made here: a
    setting of the workload's PID namespace may forbid such files to be executed."""
    handle = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(handle, program())
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW
                | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)  # fmt: skip
    # The descriptor must not be open for writing anywhere while it is executed.
    again = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(handle)
    return again


def _answered(said: int, pid: int) -> tuple[int, tuple[str, ...]]:
    """`PID` and notes, or a reason after `!`, in lines that end with an empty one."""
    text = b""
    while not text.endswith(b"\n\n"):
        ready, _, _ = select.select([said], [], [], PATIENCE)
        part = os.read(said, 4096) if ready else b""
        if not part:
            raise InputError("joining it did not come to an end", where=f"PID {pid}")
        text += part
    first, *notes = text.decode("utf-8", "replace").strip().splitlines()
    if first.startswith("!"):
        raise MissingError(f"cannot be joined: {first[1:]}", where=f"PID {pid}",
                           remedy="run as root (sudo)")  # fmt: skip
    return int(first), tuple(notes)


def _outer(
    handles: dict[str, int],
    root: int,
    folder: int,
    program: int,
    wanted: Confinement,
    say: int,
    held: int,
) -> None:
    """Joins all but the user namespace; its child, the one to be driven, is in the workload's PID
    namespace. Stays to collect it. Never returns."""
    notes: list[str] = []
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        kernel.die_with_parent()
        if os.geteuid() == 0:
            # Nobody in there may open its program or memory (ptrace(2), access mode checking).
            # Without root there is nothing to be had: it is all the same user's.
            kernel.undumpable()
        for file in wanted.cgroups:
            try:
                Path(file).write_text("0")
            except OSError as error:
                notes.append(f"cgroup not joined: {error.strerror}")
        for kind, handle in handles.items():
            if kind != "user":
                kernel.setns(handle, SPACES[kind])
        os.fchdir(root)
        if os.geteuid() == 0:
            os.chroot(".")
            os.fchdir(folder)
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            _inner(handles.get("user"), program, wanted, tell)
        os.close(tell)
        said = os.read(ready, 4096).decode("utf-8", "replace")
        os.read(ready, 1)  # its end is closed once it holds nothing open any more
        if said.startswith("!"):
            raise OSError(0, said[1:].strip())
        notes += said.splitlines()
        os.write(say, "\n".join([str(child), *notes, "", ""]).encode())
        os.read(held, 1)
        with contextlib.suppress(ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, tracee.WALL)
    except BaseException as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        with contextlib.suppress(OSError):
            os.write(say, f"!{reason}\n\n".encode())
    os._exit(0)


def _inner(user: int | None, program: int, wanted: Confinement, tell: int) -> None:
    """Enters the user namespace, drops all other descriptors and waits to be driven. Never
    returns."""
    note = ""
    try:
        kernel.die_with_parent()
        if user is not None:
            kernel.setns(user, SPACES["user"])
            # In there it is nobody, and would lose what it has by executing (capabilities(7)).
            kernel.keep_capabilities()
        if wanted.label:
            note = _take_on(wanted.label)
    except OSError as error:
        note = f"!{error.strerror}: {error.filename}"
    keep = sorted((program, tell))
    os.closerange(0, keep[0])
    os.closerange(keep[0] + 1, keep[1])
    os.closerange(keep[1] + 1, 1 << 16)
    os.write(tell, f"{note}\n".encode())
    os.close(tell)
    while not note.startswith("!"):
        signal.pause()
    os._exit(1)


def _take_on(label: str) -> str:
    """AppArmor takes a request, with the mode left out; SELinux the context itself. What was
    refused, '' where it was not."""
    profile, _, mode = label.partition(" (")
    text = f"changeprofile {profile}" if mode else label
    try:
        Path("/proc/thread-self/attr/current").write_text(text)
    except OSError as error:
        return f"the label {label} was not taken on: {error.strerror}"
    return ""


# --- put on from outside -------------------------------------------------------------------------


def _put_on(zygote: Driven, wanted: Confinement) -> None:
    """Limits, filters, users, capabilities and no_new_privs, in the order in which each is still
    permitted. Raises InputError where one is refused."""
    for kind, (soft, hard) in wanted.limits.items():
        zygote.manage("prlimit64", 0, kind, struct.pack("=QQ", soft & tracee.U64,
                                                        hard & tracee.U64), 0)  # fmt: skip
    for filter_ in wanted.programs:
        description = struct.pack("=HxxxxxxQ", len(filter_) // 8, zygote.put(filter_))
        _must(zygote, "seccomp", SET_MODE_FILTER, 0, description)
    if os.geteuid() == 0:
        _identity(zygote, wanted)
    if wanted.no_new_privileges:
        _must(zygote, "prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Changing users took it away; where the workload has it, its own /proc files are its own.
    zygote.manage("prctl", PR_SET_DUMPABLE, int(wanted.dumpable), 0, 0, 0)


def _identity(zygote: Driven, wanted: Confinement) -> None:
    for bit in range(len(CAPABILITIES)):
        if not wanted.sets["CapBnd"] >> bit & 1:
            zygote.manage("prctl", PR_CAPBSET_DROP, bit, 0, 0, 0)
    _must(zygote, "prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    groups = struct.pack(f"={len(wanted.groups)}I", *wanted.groups)
    zygote.manage("setgroups", len(wanted.groups), groups)
    _must(zygote, "setresgid", *wanted.gids)
    _must(zygote, "setresuid", *wanted.uids)
    _capabilities(zygote, wanted.sets)


def _capabilities(zygote: Driven, sets: dict[str, int]) -> None:
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    effective, permitted, inheritable = sets["CapEff"], sets["CapPrm"], sets["CapInh"]
    halves = [(value & 0xFFFFFFFF, value >> 32) for value in (effective, permitted, inheritable)]
    data = struct.pack("=6I", *(half[0] for half in halves), *(half[1] for half in halves))
    zygote.manage("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _must(zygote, "capset", header, data)
    for bit in range(len(CAPABILITIES)):
        if sets["CapAmb"] >> bit & 1:
            zygote.manage("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, bit, 0, 0)


def _must(zygote: Driven, name: str, *values: int | bytes) -> None:
    result = zygote.manage(name, *values)
    if result < 0:
        raise InputError(f"joining it: {name} says {os.strerror(-result).lower()}")


COMPARED = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
            "Seccomp_filters")  # fmt: skip


def _unlike(pid: int, zygote: int) -> tuple[str, ...]:
    """What differs between the workload's process and ours, a line each."""
    try:
        theirs, ours = (procfs.fields(procfs.read(one, "status").decode("utf-8", "replace"))
                        for one in (pid, zygote))  # fmt: skip
        labels = _label(pid), _label(zygote)
    except procfs.Vanished:
        raise InputError("ended while it was being joined", where=f"PID {pid}") from None
    notes = [f"{name} is {ours.get(name)} instead of {theirs.get(name)}"
             for name in COMPARED if ours.get(name) != theirs.get(name)]  # fmt: skip
    if labels[0] != labels[1]:
        notes.append(f"the label {labels[0]} could not be taken on: what it forbids is not seen")
    return tuple(notes)
