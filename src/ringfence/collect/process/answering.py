"""Who answers for filters that hand calls on (SECCOMP_RET_USER_NOTIF, seccomp_unotify(2)).

Nothing tells which process listens to which filter, but every listener holds a descriptor that is
named so. Where that is `ringfence run`, which refuses whatever it is asked (run/notify.py), nothing
that is handed on passes; and where nobody listens the kernel refuses it itself (ENOSYS).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.process.descriptors import sharing
from ringfence.collect.process.namespaces import FIRST, inode_of
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.process import Process, Seccomp

LISTENER = "anon_inode:seccomp notify"
"""kernel/seccomp.c, init_listener."""
REFUSING = frozenset({"run", "harden"})
"""Commands of ours that listen to filters."""
MOST_ABOVE = 64
"""Generations that are followed."""


def with_answers(members: tuple[Process, ...]) -> tuple[Process, ...]:
    """The processes, with what is known of who answers for their filters."""
    if not any(map(_hands_on, members)):
        return members
    listeners = found()
    return tuple(
        _answered(member, refusing(member.pid or 0, listeners)) if _hands_on(member) else member
        for member in members
    )


def _hands_on(member: Process) -> bool:
    filters = member.seccomp.value
    if filters is None:
        return False
    verdicts = (*filters.calls.values(), *filters.asked.values())
    return any("notify" in verdict.actions for verdict in verdicts)


def _answered(member: Process, said: Evidence | None) -> Process:
    filters = member.seccomp.value or Seccomp(0, 0, member.seccomp.evidence)
    known = msgspec.structs.replace(filters, answered=said)
    return msgspec.structs.replace(member, seccomp=Seen(known, member.seccomp.evidence))


class Listeners(msgspec.Struct, frozen=True):
    """Processes that listen to filters: ours, and whether there are `others`; `complete` where
    every process of the system has shown its descriptors."""

    ours: frozenset[int]
    others: bool
    complete: bool


def found() -> Listeners:
    """Who listens to filters now."""
    complete = inode_of("self", "pid") == FIRST["pid"]  # else others may stand outside
    holders = set()
    for pid in procfs.pids():
        try:
            if _holds(pid):
                holders.add(pid)
        except (FileNotFoundError, ProcessLookupError, procfs.Vanished):
            continue  # it has ended
        except OSError:
            complete = False
    ours = frozenset(filter(_is_ours, holders))
    return Listeners(ours, ours != holders, complete)


def refusing(pid: int, listeners: Listeners) -> Evidence | None:
    """Why nothing passes that the filters of a process hand on; None where that is not known.

    The filters of a process have one listener at most (seccomp(2), EBUSY): whoever started it and
    listens has it. `declared`, for what a process is called is its own word, though it be root's
    and stand where we do.
    """
    above = listeners.ours & set(_above(pid))
    if not above and (listeners.others or not listeners.complete):
        return None
    if not listeners.ours:
        return Evidence(Grade.OBSERVED, "/proc/*/fd", "nobody listens to filters")
    numbers = ", ".join(map(str, sorted(above or listeners.ours)))
    detail = f"ringfence run (PID {numbers}) answers, and refuses"
    return Evidence(Grade.DECLARED, "/proc/*/fd", detail)


def _above(pid: int) -> Iterator[int]:
    """The processes from which one descends, its parent first."""
    for _ in range(MOST_ABOVE):
        fields = procfs.stat(pid)
        pid = int(fields[1]) if fields else 0
        if not pid:
            return
        yield pid


def _holds(pid: int) -> bool:
    groups, complete = sharing(pid)
    if not complete:
        raise PermissionError
    return any(_listens(f"/proc/{pid}/task/{group[0]}/fd") for group in groups)


def _listens(folder: str) -> bool:
    for name in os.listdir(folder):
        try:
            if os.readlink(f"{folder}/{name}") == LISTENER:
                return True
        except FileNotFoundError:
            continue  # closed since
    return False


def _is_ours(pid: int) -> bool:
    """Whether it is a command of ours, of root's, with our files and users: nobody in a container
    is."""
    try:
        return _is_roots(pid) and _is_run(pid)
    except (OSError, procfs.Vanished):
        return False


def _is_roots(pid: int) -> bool:
    status = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
    same = all(inode_of(pid, kind) == inode_of("self", kind) for kind in ("mnt", "user"))
    return same and set(status["Uid"].split()) == {"0"}


def _is_run(pid: int) -> bool:
    words = procfs.read(pid, "cmdline").decode("utf-8", "replace").split("\0")
    named = next(
        (at for at, word in enumerate(words) if word.rpartition("/")[2] == "ringfence"), -1
    )
    return 0 <= named <= 2 and words[named + 1 : named + 2] != [] and words[named + 1] in REFUSING
