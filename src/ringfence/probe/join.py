"""Inside by joining: a process of ours that stands where the workload's process stands.

It enters the workload's cgroup, namespaces, root and working folder, then its limits, filters,
capability sets, users and no_new_privs, executing no file of the workload: images without a shell
are no obstacle. What cannot be joined is said: descriptors, the controlling terminal and a
Landlock domain belong to the process itself (`inject` sees them).

setns(2), credentials(7), capabilities(7), seccomp(2).
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator

from ringfence.collect.process import procfs
from ringfence.collect.process.credentials import CAPABILITIES
from ringfence.collect.seccomp.tables import native_calls
from ringfence.errors import InputError
from ringfence.probe.confinement import Confinement, confinement, label_of
from ringfence.probe.driven import Driven, adopted
from ringfence.probe.entering import NAME, entered
from ringfence.run import tracee
from ringfence.run.registers import U64
from ringfence.run.tracee import InjectionFailed

AT_EMPTY_PATH = 0x1000
SET_MODE_FILTER = 1
PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 8, 24, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 47, 2, 4
CAPABILITY_VERSION_3 = 0x20080522


@contextlib.contextmanager
def joined(pid: int) -> Iterator[tuple[Driven, tuple[str, ...]]]:
    """A process in the workload's place, standing still, to be driven; and what could not be
    joined. Raises InputError or MissingError."""
    wanted = confinement(pid)
    with entered(pid, wanted) as (child, program, notes):
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


def _put_on(zygote: Driven, wanted: Confinement) -> None:
    """Limits, filters, users, capabilities and no_new_privs, in the order in which each is still
    permitted. Raises InputError where one is refused."""
    for kind, (soft, hard) in wanted.limits.items():
        zygote.manage("prlimit64", 0, kind, struct.pack("=QQ", soft & U64,
                                                        hard & U64), 0)  # fmt: skip
    for filter_ in wanted.programs:
        description = struct.pack("=HxxxxxxQ", len(filter_) // 8, zygote.put(filter_))
        _must(zygote, "seccomp", SET_MODE_FILTER, 0, description)
    if os.geteuid() == 0:
        _identity(zygote, wanted)
    if wanted.no_new_privileges:
        _must(zygote, "prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Changing users gave it the dumpable state of the setting fs.suid_dumpable.
    zygote.guard()
    zygote.dumpable = wanted.dumpable


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
        labels = label_of(pid), label_of(zygote)
    except procfs.Vanished:
        raise InputError("ended while it was being joined", where=f"PID {pid}") from None
    notes = [f"{name} is {ours.get(name)} instead of {theirs.get(name)}"
             for name in COMPARED if ours.get(name) != theirs.get(name)]  # fmt: skip
    if labels[0] != labels[1]:
        notes.append(f"the label {labels[0]} could not be taken on: what it forbids is not seen")
    return tuple(notes)
