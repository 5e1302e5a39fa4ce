"""Live targets: a process tree by PID, a running container by name, this whole host."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from ringfence.collect.container.bundle import read_configuration
from ringfence.collect.container.members import membership
from ringfence.collect.container.running import KIND as CONTAINER
from ringfence.collect.container.running import find_container
from ringfence.collect.files.directory import read_programs
from ringfence.collect.files.sudoers import sudo_rules
from ringfence.collect.files.view import MOST_CONTAINER_FILES, tree_in_view, tree_of_host
from ringfence.collect.host.read import read_host
from ringfence.collect.process import procfs
from ringfence.collect.process.answering import with_answers
from ringfence.collect.process.descriptors import shown, sockets_of, tables
from ringfence.collect.process.mounts import mounts
from ringfence.collect.process.namespaces import inode_of
from ringfence.collect.process.sockets import listeners
from ringfence.collect.process.tree import descendants, processes
from ringfence.errors import InputError
from ringfence.knowledge.records import Knowledge
from ringfence.model.evidence import Seen, Unseen
from ringfence.model.facts import Facts, Target
from ringfence.model.files import SudoRules, Tree
from ringfence.model.mounts import answers, covering
from ringfence.model.process import EnvironmentHint, Listener, Process

LOOKS = 5
"""How often the processes of a workload that changes meanwhile are read."""


def collect_process(
    pid: int,
    knowledge: Knowledge,
    kind: str = "process",
    name: str = "",
    most_files: int = MOST_CONTAINER_FILES,
) -> Facts:
    """The process tree below `pid`; of a container, whose first process that is, all that is in it,
    and up to `most_files` of its files.

    Raises InputError when it is not there (any more)."""
    target = Target(kind, name or str(pid))
    if kind != CONTAINER:
        return _facts(target, lambda: descendants(pid), knowledge)
    look, missing = membership(pid)
    facts = _facts(target, look, knowledge, most_files=most_files)
    return msgspec.structs.replace(facts, unseen=(*facts.unseen, *missing))


def collect_container(name: str, knowledge: Knowledge) -> Facts:
    """The running container `name`: its processes, and its configuration."""
    container = find_container(name)
    facts = collect_process(container.pid, knowledge, CONTAINER, name)
    if container.bundle is None:
        missing = Unseen("configuration of the container", f"{container.source} names no bundle")
        return msgspec.structs.replace(facts, unseen=(*facts.unseen, missing))
    try:
        config = read_configuration(container.bundle)
    except InputError as error:
        missing = Unseen("configuration of the container", error.what)
        return msgspec.structs.replace(facts, unseen=(*facts.unseen, missing))
    members = _with_devices(_with_hints(facts.processes, config.hints), config.devices)
    return msgspec.structs.replace(facts, config=config.image, processes=members)


def _with_hints(
    members: tuple[Process, ...], hints: Seen[tuple[EnvironmentHint, ...]]
) -> tuple[Process, ...]:
    """Secrets that the configuration hands over, where the first process has hidden them.

    Programs that write their own title (nginx, PostgreSQL) overwrite /proc/PID/environ.
    """
    first, *others = members
    if first.environment.value or not hints.value:
        return members
    return (msgspec.structs.replace(first, environment=hints), *others)


def _with_devices(
    members: tuple[Process, ...], declared: Seen[tuple[str, ...]]
) -> tuple[Process, ...]:
    """Device rules that the configuration states, for those in the container's cgroup whose rules
    the kernel does not show (version 2 of cgroups)."""
    first = members[0].limits.value
    own = first.cgroup if first is not None else "/"
    found: list[Process] = []
    for member in members:
        held = member.limits.value
        inside = held is not None and own != "/" and f"{held.cgroup}/".startswith(f"{own}/")
        if held is not None and inside and held.devices.value is None:
            evidence = member.limits.evidence
            known = Seen(msgspec.structs.replace(held, devices=declared), evidence)
            member = msgspec.structs.replace(member, limits=known)
        found.append(member)
    return tuple(found)


def collect_host(knowledge: Knowledge) -> Facts:
    """This host: every process with a socket, taken as one workload, and its whole file tree.

    Without root most processes do not show what they hold: any of them may have a socket.
    """
    tree = tree_of_host(mounts("self").value)
    target = Target("host", os.uname().nodename)
    return _facts(target, _listening, knowledge, tree, container=False)


def _listening() -> list[int]:
    return [pid for pid in map(procfs.living, procfs.pids()) if _may_listen(pid)]


def _may_listen(pid: int) -> bool:
    try:
        return any(table.inodes or table.unread_rings for table in tables(pid)[0])
    except PermissionError:
        return procfs.is_program(pid)
    except (OSError, procfs.Vanished):
        return False


def _facts(
    target: Target,
    look: Look,
    knowledge: Knowledge,
    tree: Tree | None = None,
    container: bool | None = None,
    most_files: int = MOST_CONTAINER_FILES,
) -> Facts:
    """The workload; then what surrounds it."""
    found = _read(target, look, knowledge)
    members = with_answers(tuple(found.members.values()))
    if not members and target.kind != "host":
        raise InputError("it ended while it was being read", where=target.name)
    contained = _contained(members) if container is None else container
    if tree is None:
        tree = _tree(members, contained, most_files)
    return Facts(
        target=target,
        processes=members,
        listeners=found.listeners,
        host=read_host(knowledge, found.pids),
        tree=tree,
        container=contained,
        # Of a host a socket counts whoever holds it.
        silent=0 if target.kind == "host" else sum(not shown(pid) for pid in found.members),
        sudo=_sudo(members) if contained else None,
        unseen=(*found.unseen, *(tree.unseen if tree is not None else ())),
    )


Look = Callable[[], list[int]]
"""Tells which processes belong to a workload now."""


class Reading(msgspec.Struct):
    """What was read of a workload's processes and their sockets."""

    pids: list[int] = []
    members: dict[int, Process] = {}
    listeners: tuple[Listener, ...] = ()
    unseen: tuple[Unseen, ...] = ()


def _read(target: Target, look: Look, knowledge: Knowledge) -> Reading:
    """The processes and sockets of a workload, read again where others are there afterwards.

    Sockets come first, while their holders surely live. A service may hand its sockets from one
    short-lived process to the next; so what it was seen to hold in any look counts while it
    listens, also when the holders have ended.
    """
    whole_host = target.kind == "host"
    found = Reading(look())
    refusals: dict[Unseen, None] = {}
    held: set[int] = set()
    for left in reversed(range(LOOKS)):
        others = None if left or whole_host else _others(look, found.pids)
        sockets, unseen = listeners(
            found.pids, whole_host=whole_host, earlier=frozenset(held), others=others
        )
        held.update(item.inode for item in sockets if item.holders_seen)
        fresh = [pid for pid in found.pids if pid not in found.members]
        members, refused = processes(fresh, knowledge)
        found.members.update((one.pid, one) for one in members if one.pid is not None)
        refusals.update(dict.fromkeys(refused))
        now = found.pids if whole_host else _now(look, found.pids)
        if set(now) == set(found.pids):
            found.members = {pid: found.members[pid] for pid in now if pid in found.members}
            break
        if left:
            found.pids = now
    else:
        changing = Unseen(f"all processes of {target.name}", f"others in each of {LOOKS} looks")
        refusals[changing] = None
    suspects = () if whole_host else tuple(found.members)
    found.listeners = tuple(_alive(item, found.members, suspects) for item in sockets)
    found.unseen = (*unseen, *refusals)
    return found


def _now(look: Look, before: list[int]) -> list[int]:
    """Which processes there are by now; those of before where the workload has ended."""
    try:
        return look()
    except InputError:
        return before


def _others(look: Look, pids: list[int]) -> dict[int, frozenset[int]]:
    """The processes outside the workload, which are there before and after, and the sockets that
    each shows to hold."""
    before, held = {*_now(look, pids), *pids}, dict[int, frozenset[int]]()
    for pid in map(procfs.living, procfs.pids()):
        if pid not in before:
            held[pid] = frozenset()
            with contextlib.suppress(OSError):
                held[pid] = sockets_of(pid)
    stay = {*map(procfs.living, procfs.pids())} - set(_now(look, pids))
    return {pid: inodes for pid, inodes in held.items() if pid in stay}


def _alive(item: Listener, members: dict[int, Process], suspects: tuple[int, ...]) -> Listener:
    """The listener; where all that held it have ended it may be held by any of `suspects`."""
    if not members.keys().isdisjoint(item.holders):
        return item
    return msgspec.structs.replace(item, holders=suspects, waiting=(), holders_seen=False)


def _contained(members: tuple[Process, ...]) -> bool:
    """Whether the first process stands in a container: a PID namespace or a root of its own."""
    if not members or members[0].pid is None:
        return False
    for space in members[0].namespaces:
        if space.kind == "pid" and space.shared.value is False:
            return True
    pid = members[0].pid
    try:
        root, own = os.stat(f"/proc/{pid}/root"), os.stat("/")
    except OSError:
        return False
    private = inode_of(pid, "mnt") != inode_of("self", "mnt")
    return private and (root.st_dev, root.st_ino) != (own.st_dev, own.st_ino)


def _tree(members: tuple[Process, ...], contained: bool, most_files: int) -> Tree | None:
    """A container's own file tree; on the host only the programs that anyone can run."""
    if not members or not members[0].paths_seen:
        return None
    root = Path(f"/proc/{members[0].pid}/root")
    if not contained:
        return read_programs(root)
    return tree_in_view(root, members[0].mounts.value, most_files)


def _sudo(members: tuple[Process, ...]) -> Seen[SudoRules] | None:
    """The sudo rules of a container, as its first process has them."""
    if not members or not members[0].paths_seen:
        return None
    root, mounts = f"/proc/{members[0].pid}/root", members[0].mounts
    found = mounts.value
    if found is None:
        return Seen(None, mounts.evidence)

    def shuns(path: str) -> str:
        mount = covering(found, path)
        return "whoever serves it may not answer" if mount and answers(mount) else ""

    return sudo_rules(root, shuns)
