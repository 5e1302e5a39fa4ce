"""A live process tree: every process from one PID down, and all that is read of each."""

from __future__ import annotations

import os
from typing import Any

from ringfence.collect.process import procfs
from ringfence.collect.process.credentials import (
    credentials,
    no_new_privileges,
    thread_statuses,
)
from ringfence.collect.process.elsewhere import elsewhere
from ringfence.collect.process.environment import environment
from ringfence.collect.process.limits import limits
from ringfence.collect.process.memory import image, memory
from ringfence.collect.process.mounts import mounts
from ringfence.collect.process.namespaces import inode_of, namespaces
from ringfence.collect.process.neighbours import neighbours
from ringfence.collect.process.outside import outside
from ringfence.collect.process.paths import path_facts
from ringfence.collect.seccomp.live import FilterUnreadable, read_live
from ringfence.collect.seccomp.tables import native_calls
from ringfence.errors import InputError
from ringfence.knowledge.questions import call_questions
from ringfence.knowledge.records import Knowledge
from ringfence.model.evidence import Evidence, Grade, Seen, Unseen
from ringfence.model.process import CallVerdict, Mount, Outside, PathFact, Process, Seccomp

ALLOWED = CallVerdict(("allow",))
MOST_LISTINGS = 16
"""How often /proc is listed for processes that were started meanwhile."""


def descendants(pid: int) -> list[int]:
    """`pid` and every process below it, parents first, each by the id of a thread that lives
    (`procfs.living`). Raises InputError if it is not there."""
    parents: dict[int, list[int]] = {}
    known: set[int] = set()
    # What is started while others are looked at is in no list that was made before.
    for _ in range(MOST_LISTINGS):
        fresh = [candidate for candidate in procfs.pids() if candidate not in known]
        if not fresh:
            break
        known.update(fresh)
        for candidate in fresh:
            fields = procfs.stat(candidate)
            if fields:
                parents.setdefault(int(fields[1]), []).append(candidate)
    _refuse_no_program(pid)
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop(0))
        queue += sorted(set(parents.get(found[-1], ())) - {*found, *queue})
    return [procfs.living(each) for each in found]


def _refuse_no_program(pid: int) -> None:
    """Raise InputError for what is not there, a thread of the kernel, or what has ended."""
    fields = procfs.stat(procfs.living(pid))
    if not fields:
        raise InputError(
            "there is no such process", where=f"PID {pid}", remedy="see `ps -e` for what runs"
        )
    if procfs.is_thread_of_kernel(fields):
        raise InputError("is a thread of the kernel itself, no service", where=f"PID {pid}")
    if procfs.is_dead(fields):
        raise InputError("has ended and only waits to be collected", where=f"PID {pid}")


def processes(pids: list[int], knowledge: Knowledge) -> tuple[tuple[Process, ...], list[Unseen]]:
    """Facts of each process of `pids` that still runs, and what could not be read."""
    found: list[Process] = []
    unseen: list[Unseen] = []
    questions = call_questions(knowledge)
    for pid in pids:
        try:
            process = read_process(pid, knowledge, questions)
        except procfs.Vanished:
            unseen.append(Unseen(f"process {pid}", "it ended while it was being read"))
            continue
        found.append(process)
        unseen += _refusals(process)
    return tuple(found), unseen


def read_process(pid: int, knowledge: Knowledge, questions: tuple[str, ...]) -> Process:
    """All that is read of one process. Raises procfs.Vanished when it ends meanwhile: what a
    process no longer shows would otherwise count as open."""
    status = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
    threads = thread_statuses(pid, status)
    own = credentials(pid, threads)
    seen_mounts = mounts(pid)
    held = limits(pid)
    rules = held.value.devices.value if held.value is not None else None
    paths, looked = _paths(pid, knowledge, seen_mounts, rules)
    beyond, all_beyond = outside(pid)
    process = Process(
        pid=pid,
        parent=int(status["PPid"]),
        program=status["Name"],
        executable=_executable(pid),
        credentials=Seen(own, own.evidence),
        no_new_privileges=no_new_privileges(pid, threads),
        seccomp=seccomp(pid, status, questions),
        namespaces=namespaces(pid),
        mac_label=_label(pid),
        mounts=seen_mounts,
        memory=memory(pid),
        limits=held,
        environment=environment(pid),
        image=image(pid),
        neighbours=neighbours(pid, own.uid),
        terminal=_terminal(pid),
        paths=paths,
        paths_seen=looked,
        outside=beyond,
        outside_seen=all_beyond,
        threads=int(status.get("Threads", "1")),
    )
    if _ended(pid):
        raise procfs.Vanished(str(pid))
    return process


def _ended(pid: int) -> bool:
    """Whether it is gone, or dead and only waited for (state Z or X of proc_pid_status(5))."""
    status = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
    return status.get("State", "X")[:1] in "ZX"


def _refusals(process: Process) -> list[Unseen]:
    """What this process did not let be read, one line each."""
    fields: dict[str, Seen[Any]] = {
        "seccomp filters": process.seccomp,
        "mounts": process.mounts,
        "memory maps": process.memory,
        "environment": process.environment,
        "executable": process.image,
        "mandatory access control label": process.mac_label,
    }
    missing = [
        Unseen(f"{what} of {process.name}", seen.evidence.detail)
        for what, seen in fields.items()
        if seen.value is None
    ]
    if not process.paths_seen:
        missing.append(Unseen(f"file system of {process.name}", "permission denied"))
    if not process.outside_seen:
        missing.append(Unseen(f"open directories of {process.name}", "not all could be looked at"))
    beyond: dict[str, str] = {}
    for item in process.outside:
        beyond.setdefault(_beyond(item), item.via)
    for where, via in beyond.items():
        missing.append(Unseen(f"files of {process.name} {where}", f"{via} leads there"))
    if any(space.inode is None for space in process.namespaces):
        missing.append(Unseen(f"namespaces of {process.name}", "permission denied"))
    return missing


def _beyond(item: Outside) -> str:
    if item.namespace:
        return "in another mount namespace"
    return "under another mount" if item.under else "outside its root directory"


def seccomp(pid: int, status: dict[str, str], questions: tuple[str, ...]) -> Seen[Seccomp]:
    """The filters of the process; its mode alone where the filters cannot be read."""
    mode = int(status.get("Seccomp", "0"))
    source = f"/proc/{pid}/status"
    if mode == 0:
        everything = dict.fromkeys(native_calls(), ALLOWED)
        evidence = Evidence(Grade.OBSERVED, source, "Seccomp 0")
        return Seen(Seccomp(0, 0, evidence, everything), evidence)
    try:
        found = read_live(pid, questions)
    except FilterUnreadable as error:
        return Seen(None, Evidence(Grade.ASSUMED, source, f"Seccomp {mode}, but {error}"))
    return Seen(found, found.evidence)


def _executable(pid: int) -> str:
    try:
        return procfs.link(pid, "exe").removesuffix(" (deleted)")
    except OSError:
        return ""


def _label(pid: int) -> Seen[str]:
    source = f"/proc/{pid}/attr/current"
    try:
        text = procfs.read(pid, "attr/current").decode("utf-8", "replace").strip("\0\n ")
    except OSError as error:
        if error.errno == 22:  # EINVAL: no module of this kernel labels processes
            detail = "no security module labels processes"
            return Seen("", Evidence(Grade.OBSERVED, source, detail))
        return procfs.refused(source, error)
    return Seen(text, Evidence(Grade.OBSERVED, source, text or "no label"))


def _terminal(pid: int) -> Seen[bool]:
    source = f"/proc/{pid}/stat"
    fields = procfs.stat(pid)
    if not fields:
        raise procfs.Vanished(str(pid))
    number = int(fields[4])
    detail = f"tty_nr {number}"
    return Seen(number != 0, Evidence(Grade.OBSERVED, source, detail))


def _paths(
    pid: int,
    knowledge: Knowledge,
    seen_mounts: Seen[tuple[Mount, ...]],
    rules: tuple[str, ...] | None,
) -> tuple[tuple[PathFact, ...], bool]:
    root = f"/proc/{pid}/root"
    try:
        os.listdir(root)
    except OSError:
        return (), False
    found = seen_mounts.value or ()
    entries = tuple(knowledge.paths.values())
    facts = path_facts(root, entries, found, rules)
    if _same_files(pid):
        return facts, True
    # The host's own come first: they are worth more than what has the same name in an image.
    host = mounts("self").value or ()
    others = path_facts(root, elsewhere(entries, found, host), found, rules)
    named = {(fact.id, fact.path) for fact in others}
    return (*others, *(fact for fact in facts if (fact.id, fact.path) not in named)), True


def _same_files(pid: int) -> bool:
    """Whether it has our mount namespace and root directory: then every path is as it is here."""
    try:
        same_root = os.path.samefile(f"/proc/{pid}/root", "/")
    except OSError:
        return False
    return same_root and inode_of(pid, "mnt") == inode_of("self", "mnt")
