"""Who answers for filters that hand calls on (SECCOMP_RET_USER_NOTIF, seccomp_unotify(2)).

Nothing tells which process listens to which filter, but every listener holds a descriptor that is
named so, and the filters of a process have one listener at most (seccomp(2), EBUSY). Where the
process descends from a `ringfence run` that listens, that is the one, and it refuses whatever it is
asked (run/notify.py). Where nobody was seen to listen, somebody may begin to: a listener may be on
its way between processes, and a filter that is added later decides before an older one.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.process.descriptors import sharing
from ringfence.collect.process.namespaces import inode_of
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
    return tuple(map(_with_answer, members))


def _with_answer(member: Process) -> Process:
    filters = member.seccomp.value
    if filters is None or not _hands_on(filters):
        return member
    known = msgspec.structs.replace(filters, answered=refusing(member.pid or 0))
    return msgspec.structs.replace(member, seccomp=Seen(known, member.seccomp.evidence))


def _hands_on(filters: Seccomp) -> bool:
    verdicts = (*filters.calls.values(), *filters.asked.values())
    return any("notify" in verdict.actions for verdict in verdicts)


def refusing(pid: int) -> Evidence | None:
    """Why nothing passes that the filters of a process hand on; None where that is not known.

    `declared`, for what a process is called is its own word, though it be root's and stand where
    we do.
    """
    for one in _above(pid):
        if _is_ours(one):
            detail = f"ringfence (PID {one}) answers, and refuses"
            return Evidence(Grade.DECLARED, f"/proc/{one}/fd", detail)
    return None


def _above(pid: int) -> Iterator[int]:
    """The processes from which one descends, its parent first."""
    for _ in range(MOST_ABOVE):
        fields = procfs.stat(pid)
        pid = int(fields[1]) if fields else 0
        if not pid:
            return
        yield pid


def _is_ours(pid: int) -> bool:
    """Whether it is this process, or a command of ours of root's, with our files and users (nobody
    in a container is), and listens."""
    try:
        known = pid == os.getpid() or (_is_run(pid) and _is_roots(pid))
        return known and _listens(pid)
    except (OSError, procfs.Vanished):
        return False


def _is_run(pid: int) -> bool:
    words = procfs.read(pid, "cmdline").decode("utf-8", "replace").split("\0")
    pairs = itertools.pairwise(words[:4])  # an interpreter may come first, and `-m`
    return any(one.rpartition("/")[2] == "ringfence" and two in REFUSING for one, two in pairs)


def _is_roots(pid: int) -> bool:
    status = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
    same = all(inode_of(pid, kind) == inode_of("self", kind) for kind in ("mnt", "user"))
    return same and set(status["Uid"].split()) == {"0"}


def _listens(pid: int) -> bool:
    groups, _ = sharing(pid)
    folders = (f"/proc/{pid}/task/{group[0]}/fd" for group in groups)
    return any(
        _is_listener(f"{folder}/{name}") for folder in folders for name in os.listdir(folder)
    )


def _is_listener(path: str) -> bool:
    try:
        return os.readlink(path) == LISTENER
    except FileNotFoundError:
        return False  # closed since
