"""Other processes: their memory, their files, their descriptors, their signals.

Access is asked for and not used: nothing is read, written or sent (ptrace(2), *Ptrace access mode
checking*).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from ringfence.probe.definition import Inside, Outcome, Probe, Seen, closed, opened, undecided
from ringfence.probe.view import Other

GROUP = "processes"
O_RDONLY, O_RDWR, O_PATH, O_DIRECTORY = 0, 2, 0o10000000, 0o200000
NOWHERE = 1 << 63
"""An address that no process can have: what is asked for there ends in EFAULT."""
LOWEST = 0x1000
"""An address that every process could have and none has (vm.mmap_min_addr)."""
SEIZE, ATTACH, PAGEOUT = 0x4206, 16, 21
PTRACE = "CAP_SYS_PTRACE"


def _over_others(inside: Inside, ask: Callable[[Other], Outcome]) -> Outcome:
    """The first process on which it works; else the last refusal, if none was left out."""
    if not inside.view.others:
        return closed("namespace (pid)", "no other process is in view")
    found = None
    for other in inside.view.others:
        found = ask(other)
        if found.seen is Seen.OPEN:
            return opened(f"process {other.pid} ({other.name})")
    if found is not None and found.seen is Seen.UNSUPPORTED:
        return found
    if inside.view.unlisted:
        count = len(inside.view.others)
        return undecided(f"refused for {count} processes, {inside.view.unlisted} were not tried")
    return found or closed("namespace (pid)")


def see(inside: Inside) -> Outcome:
    """Opens the state of another process, which everybody may read where /proc shows it (a folder
    alone opens even where hidepid= hides what is in it, proc(5)); reads nothing."""

    def ask(other: Other) -> Outcome:
        path = f"/proc/{other.pid}/status"
        return inside.judged(inside.open(path, O_RDONLY), detail=path)

    return _over_others(inside, ask)


def attach(inside: Inside) -> Outcome:
    """Attaches to another process without stopping it (PTRACE_SEIZE) and is gone in the next
    moment; the kernel detaches it, and it never noticed. PTRACE_ATTACH, which stops it, is only
    asked of the filters."""

    def ask(other: Other) -> Outcome:
        seize, stop = (inside.passing("ptrace", request, other.pid, 0, 0) is not None
                       for request in (SEIZE, ATTACH))  # fmt: skip
        if stop and not seize:
            return undecided("filters refuse PTRACE_SEIZE alone, PTRACE_ATTACH would stop others")
        return inside.judged(inside.call("ptrace", SEIZE, other.pid, 0, 0), capability=PTRACE)

    return _over_others(inside, ask)


def _vector(inside: Inside) -> bytes:
    return struct.pack("=QQ", inside.child.put(bytes(16)), 1)


def read_memory(inside: Inside) -> Outcome:
    """Asks to read a byte at an address that no process can have: EFAULT comes after the check."""

    def ask(other: Other) -> Outcome:
        there = struct.pack("=QQ", NOWHERE, 1)
        result = inside.call("process_vm_readv", other.pid, _vector(inside), 1, there, 1, 0)
        return inside.judged(result, (errno.EFAULT,), capability=PTRACE)

    return _over_others(inside, ask)


def write_memory(inside: Inside) -> Outcome:
    """Asks to write a byte to an address that no process can have: EFAULT comes after the check."""

    def ask(other: Other) -> Outcome:
        there = struct.pack("=QQ", NOWHERE, 1)
        result = inside.call("process_vm_writev", other.pid, _vector(inside), 1, there, 1, 0)
        return inside.judged(result, (errno.EFAULT,), capability=PTRACE)

    return _over_others(inside, ask)


def _opening(name: str, flags: int) -> Callable[[Inside], Outcome]:
    def attempt(inside: Inside) -> Outcome:
        """Opens a file of another process's in /proc; reads and writes nothing, and closes it with
        the child."""

        def ask(other: Other) -> Outcome:
            path = f"/proc/{other.pid}/{name}"
            result = inside.open(path, flags)
            return inside.judged(result, detail=path, capability=_beyond_mode(inside, other, name))

        return _over_others(inside, ask)

    return attempt


def _beyond_mode(inside: Inside, other: Other, name: str) -> str:
    """The capability that the access check asks for, where the file's mode is not what refuses."""
    modeless = name == "maps" or other.uid == inside.view.uid
    passed = inside.view.holds("CAP_DAC_OVERRIDE") or inside.view.holds("CAP_DAC_READ_SEARCH")
    return PTRACE if modeless or passed else ""


def other_root(inside: Inside) -> Outcome:
    """Opens another process's root folder by /proc/PID/root as a mere place (O_PATH), and compares
    its number with its own: a way out of a container if it is another one."""
    own = identity(inside, inside.call("openat", -100, "/", O_PATH | O_DIRECTORY, 0))

    def ask(other: Other) -> Outcome:
        path = f"/proc/{other.pid}/root/"
        handle = inside.call("openat", -100, path, O_PATH | O_DIRECTORY, 0, path=path)
        if handle < 0:
            return inside.judged(handle, capability=PTRACE)
        if identity(inside, handle) == own:
            return closed("namespace (mnt)", "it is the same root")
        return opened(path)

    return _over_others(inside, ask)


def identity(inside: Inside, handle: int) -> bytes:
    """Device and inode number, the first 16 bytes of struct stat."""
    found = bytearray(144)
    inside.call("fstat", handle, found)
    return bytes(found[:16])


def take_descriptor(inside: Inside) -> Outcome:
    """Asks for a descriptor that no process has (pidfd_getfd(2)): EBADF comes after the check."""

    def ask(other: Other) -> Outcome:
        handle = inside.call("pidfd_open", other.pid, 0)
        if handle < 0:
            return inside.judged(handle)
        result = inside.call("pidfd_getfd", handle, 0x7FFFFFFF, 0)
        return inside.judged(result, (errno.EBADF,), capability=PTRACE)

    return _over_others(inside, ask)


def signal(inside: Inside) -> Outcome:
    """Signal 0, which is never sent: the kernel only checks (kill(2))."""

    def ask(other: Other) -> Outcome:
        # Its own user's processes need none: what refuses those is no capability.
        capability = "" if other.uid == inside.view.uid else "CAP_KILL"
        return inside.judged(inside.call("kill", other.pid, 0), capability=capability)

    return _over_others(inside, ask)


def advise_memory(inside: Inside) -> Outcome:
    """Gives advice about a page of another's that is not there: ENOMEM comes after both checks
    (mm/madvise.c: EACCES for ptrace access, EPERM for CAP_SYS_NICE), and nothing is advised."""

    def ask(other: Other) -> Outcome:
        handle = inside.call("pidfd_open", other.pid, 0)
        if handle < 0:
            return inside.judged(handle)
        there = struct.pack("=QQ", LOWEST, 4096)
        result = inside.call("process_madvise", handle, there, 1, PAGEOUT, 0)
        capability = PTRACE if result == -errno.EACCES else "CAP_SYS_NICE"
        return inside.judged(result, (errno.ENOMEM,), capability=capability)

    return _over_others(inside, ask)


def change_limits(inside: Inside) -> Outcome:
    """Reads a limit of another process by prlimit(2), which asks for the right to set it, too."""

    def ask(other: Other) -> Outcome:
        return inside.judged(inside.call("prlimit64", other.pid, 7, 0, bytearray(16)),
                             capability="CAP_SYS_RESOURCE")  # fmt: skip

    return _over_others(inside, ask)


_MEM, _ENVIRON, _FD, _MAPS = (_opening(name, flags) for name, flags in (
    ("mem", O_RDWR), ("environ", O_RDONLY), ("fd", O_RDONLY | O_DIRECTORY), ("maps", O_RDONLY),
))  # fmt: skip

PROBES = (
    Probe("process.see-others", GROUP, "See other processes", "T1057", see),
    Probe("process.attach", GROUP, "Trace another process", "T1055.008", attach),
    Probe("process.read-memory", GROUP, "Read another process's memory (process_vm_readv)", "T1055",
          read_memory),
    Probe("process.write-memory", GROUP, "Write another process's memory (process_vm_writev)",
          "T1055", write_memory),
    Probe("process.open-memory", GROUP, "Open another process's /proc/PID/mem", "T1055.009", _MEM),
    Probe("process.open-environment", GROUP, "Open another process's environment", "T1552.007",
          _ENVIRON),
    Probe("process.open-descriptors", GROUP, "List another process's descriptors", "T1057", _FD),
    Probe("process.open-maps", GROUP, "Read another process's memory map", "T1057", _MAPS),
    Probe("process.other-root", GROUP, "Leave by another process's root (/proc/PID/root)", "T1611",
          other_root),
    Probe("process.take-descriptor", GROUP, "Take another process's descriptor (pidfd_getfd)",
          "T1055", take_descriptor),
    Probe("process.signal", GROUP, "Send signals to other processes", "T1489", signal),
    Probe("process.advise-memory", GROUP, "Advise the kernel on another's memory", "T1055",
          advise_memory),
    Probe("process.limits", GROUP, "Set another process's limits", "T1499", change_limits),
)  # fmt: skip
