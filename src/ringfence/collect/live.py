"""Live targets: a process tree by PID, a running container by name, this whole host."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ringfence.collect.container.bundle import read_configuration
from ringfence.collect.container.running import find_container
from ringfence.collect.files.directory import read_programs
from ringfence.collect.files.view import tree_in_view, tree_of_host
from ringfence.collect.host.read import read_host
from ringfence.collect.process import procfs
from ringfence.collect.process.mounts import mounts
from ringfence.collect.process.namespaces import inode_of
from ringfence.collect.process.sockets import listeners
from ringfence.collect.process.tree import descendants, is_program, processes
from ringfence.errors import InputError
from ringfence.knowledge.records import Knowledge
from ringfence.model.evidence import Seen, Unseen
from ringfence.model.facts import Facts, Target
from ringfence.model.files import Tree
from ringfence.model.process import EnvironmentHint, Listener, Process


def collect_process(pid: int, knowledge: Knowledge, kind: str = "process", name: str = "") -> Facts:
    """The process tree below `pid`. Raises InputError when it is not there (any more)."""
    pids = descendants(pid)
    return _facts(Target(kind, name or str(pid)), pids, knowledge)


def collect_container(name: str, knowledge: Knowledge) -> Facts:
    """The running container `name`: its first process and all below it."""
    container = find_container(name)
    facts = collect_process(container.pid, knowledge, "container", name)
    if container.bundle is None:
        missing = Unseen("configuration of the container", f"{container.source} names no bundle")
        return msgspec.structs.replace(facts, unseen=(*facts.unseen, missing))
    try:
        config, hints = read_configuration(container.bundle)
    except InputError as error:
        missing = Unseen("configuration of the container", error.what)
        return msgspec.structs.replace(facts, unseen=(*facts.unseen, missing))
    return msgspec.structs.replace(
        facts, config=config, processes=_with_hints(facts.processes, hints)
    )


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


def collect_host(knowledge: Knowledge) -> Facts:
    """This host: every process with a socket, taken as one workload, and its whole file tree.

    Without root most processes do not show what they hold: any of them may have a socket.
    """
    pids = [pid for pid in map(procfs.living, procfs.pids()) if _may_listen(pid)]
    tree = tree_of_host(mounts("self").value)
    return _facts(Target("host", os.uname().nodename), pids, knowledge, tree, container=False)


def _may_listen(pid: int) -> bool:
    try:
        return any(link.startswith("socket:[") for link in procfs.descriptors(pid))
    except PermissionError:
        return is_program(pid)
    except (OSError, procfs.Vanished):
        return False


def _facts(
    target: Target,
    pids: list[int],
    knowledge: Knowledge,
    tree: Tree | None = None,
    container: bool | None = None,
) -> Facts:
    """Sockets first, while their holders surely live; then each process; then what surrounds."""
    found, unseen = listeners(pids, whole_host=target.kind == "host")
    members, refusals = processes(pids, knowledge)
    if not members and target.kind != "host":
        raise InputError("it ended while it was being read", where=target.name)
    contained = _contained(members) if container is None else container
    if tree is None:
        tree = _tree(members, contained)
    return Facts(
        target=target,
        processes=members,
        listeners=_of(found, members),
        host=read_host(knowledge, pids),
        tree=tree,
        container=contained,
        unseen=(*unseen, *refusals, *(tree.unseen if tree is not None else ())),
    )


def _of(found: tuple[Listener, ...], members: tuple[Process, ...]) -> tuple[Listener, ...]:
    """Listeners of which at least one holder still lives."""
    alive = {process.pid for process in members}
    return tuple(item for item in found if alive & set(item.holders))


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


def _tree(members: tuple[Process, ...], contained: bool) -> Tree | None:
    """A container's own file tree; on the host only the programs that anyone can run."""
    if not members or not members[0].paths_seen:
        return None
    root = Path(f"/proc/{members[0].pid}/root")
    return tree_in_view(root, members[0].mounts.value) if contained else read_programs(root)
