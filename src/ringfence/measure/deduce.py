"""From facts to a deployment: zones, boundaries, entry points, and the state of every condition."""

from __future__ import annotations

import msgspec

from ringfence.knowledge.records import Knowledge
from ringfence.measure.conditions.registry import decide_condition
from ringfence.measure.conditions.scene import Scene, is_admin, scene
from ringfence.measure.guest import examined_deployment
from ringfence.measure.reach import reach
from ringfence.model.deployment import (
    ENTRY_POINTS,
    Asset,
    AssetKind,
    Boundary,
    BoundaryKind,
    Condition,
    Count,
    Deployment,
    EntryPoint,
    Handler,
    Reach,
    Zone,
)
from ringfence.model.evidence import Evidence, Grade, Unseen
from ringfence.model.facts import Facts
from ringfence.model.files import Tree
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import Listener, Process

UNSEEN = Condition(State.UNKNOWN, (Evidence(Grade.ASSUMED, "ringfence", "not seen"),))
SUPPOSED_LISTENER = Unseen(
    "entry points", "no port is declared: one listening socket reachable by everyone is assumed"
)


def deduce(facts: Facts, knowledge: Knowledge) -> Deployment:
    """The deployment that `facts` show. A hand-written one is already there."""
    if facts.declared is not None:
        return facts.declared
    if facts.examined is not None:
        return examined_deployment(facts.examined, knowledge)
    view = scene(facts, knowledge)
    zones = _zones(facts)
    points, unseen = entry_points(facts)
    if facts.silent:
        missing = f"{_silent(facts)}: entry points may be missing. Measured as root they are seen"
        unseen = (Unseen("entry points", missing), *unseen)
    user, admin = _conditions(view, knowledge)
    return Deployment(
        name=_name(facts),
        zones=zones,
        kernel_zone=_kernel_zone(facts, zones),
        ring=3,
        boundaries=_boundaries(facts, zones),
        entry_points=points,
        conditions=user,
        admin_conditions=admin,
        default=UNSEEN,
        counts=_counts(facts, len(points)),
        unseen=(*facts.unseen, *(facts.host.unseen if facts.host is not None else ()), *unseen),
    )


def _name(facts: Facts) -> str:
    """A process tree is known by its program: a bare PID says nothing in a table."""
    if facts.target.kind == "process" and facts.processes:
        return facts.processes[0].name
    return facts.target.name


def _conditions(
    view: Scene, knowledge: Knowledge
) -> tuple[dict[str, Condition], dict[str, Condition]]:
    """Every condition of the knowledge base, at both levels; admin's only where it differs."""
    names = knowledge.conditions
    user = {name: decide_condition(name, view, Level.USER) for name in names}
    admin = {name: decide_condition(name, view, Level.ADMIN) for name in names}
    return user, {name: state for name, state in admin.items() if state != user[name]}


def _virtual(facts: Facts) -> bool:
    return facts.host is not None and bool(facts.host.machine.virtual.value)


def _zones(facts: Facts) -> tuple[Zone, ...]:
    """Innermost first: container, system, machine, as far as each is there."""
    data = Asset(AssetKind.SERVICE_DATA, "the service's data", Level.DATA)
    services = facts.host.services if facts.host is not None else ()
    held: list[Asset] = []
    if services:
        held.append(Asset(AssetKind.OTHER_SERVICES, f"other services: {', '.join(services[:4])}"))
    if _virtual(facts):
        system = Zone("system", (*held, Asset(AssetKind.GUEST, "this guest system")))
        machine = Zone(
            "machine",
            (
                Asset(AssetKind.OTHER_TENANTS, "other guests of the machine underneath"),
                Asset(AssetKind.HOST, "the machine underneath"),
            ),
        )
        outer = [system, machine]
    else:
        name = "machine" if facts.container else "system"
        outer = [Zone(name, (*held, Asset(AssetKind.HOST, "this host")))]
    if facts.container:
        return (Zone("container", (data,)), *outer)
    first = outer[0]
    return (Zone(first.name, (data, *first.assets)), *outer[1:])


def _kernel_zone(facts: Facts, zones: tuple[Zone, ...]) -> str:
    return zones[1].name if facts.container else zones[0].name


def _boundaries(facts: Facts, zones: tuple[Zone, ...]) -> tuple[Boundary, ...]:
    kernel = _kernel_zone(facts, zones)
    lines = [Boundary(BoundaryKind.PROCESS, zones[0].name)]
    if facts.container:
        lines.append(Boundary(BoundaryKind.CONTAINER, zones[0].name))
    lines.append(Boundary(BoundaryKind.KERNEL, kernel))
    if _virtual(facts):
        lines.append(Boundary(BoundaryKind.MACHINE, kernel))
    return (*lines, Boundary(BoundaryKind.NETWORK, zones[0].name))


def entry_points(facts: Facts) -> tuple[tuple[EntryPoint, ...], tuple[Unseen, ...]]:
    """One entry point for each place that sockets listen at; and each port that a configuration
    names, where no socket was seen that is surely the workload's."""
    by_pid = {process.pid: process for process in facts.processes}
    points = _merged([_listening(item, by_pid, facts) for item in facts.listeners])
    if not all(point.supposed for point in points):
        return points, ()
    if facts.config is None and facts.tree is None:
        return points, ()
    if facts.config is not None and facts.config.ports:
        return (*points, *(_declared_port(port, facts) for port in facts.config.ports)), ()
    runs = facts.target.kind == "host" or (facts.processes and facts.processes[0].pid is not None)
    if runs:
        return points, ()
    return (_declared_port("", facts),), (SUPPOSED_LISTENER,)


def _listening(item: Listener, by_pid: dict[int | None, Process], facts: Facts) -> EntryPoint:
    distance, why = reach(item, by_pid, facts)
    place = item.path or (f"{_bracketed(item.address)}:{item.port}" if item.port else item.address)
    return EntryPoint(
        id=f"{item.kind}:{place}" if place else f"{item.kind}:{item.inode}",
        kind=item.kind,
        reach=distance,
        handler=_handler(item, by_pid, facts),
        evidence=(item.evidence, why),
        address=item.path or item.address,
        port=item.port,
        supposed=item.supposed,
    )


def _merged(points: list[EntryPoint]) -> tuple[EntryPoint, ...]:
    """One entry point for each id, in the order in which they were first seen.

    Sockets that share a port (SO_REUSEPORT) are one way in, however many there are. Of them the
    widest reach and the most privileged handler count, since whoever sends does not choose the
    socket but may try again. Of equals the first is taken. A supposed one that is reached from
    farther away than those that were seen stays apart: it would decide the start through them.
    """
    groups: dict[str, list[EntryPoint]] = {}
    sure: dict[str, int] = {}
    for point in points:
        if not point.supposed:
            sure[point.id] = min(point.reach.rank, sure.get(point.id, point.reach.rank))
    for point in points:
        apart = point.supposed and point.reach.rank < sure.get(point.id, 0)
        name = f"{point.id}:supposed" if apart else point.id
        groups.setdefault(name, []).append(msgspec.structs.replace(point, id=name))
    return tuple(_one(group) if len(group) > 1 else group[0] for group in groups.values())


def _one(group: list[EntryPoint]) -> EntryPoint:
    first, *_ = group
    widest = min(group, key=lambda point: point.reach.rank)
    listens, why = first.evidence[0], widest.evidence[1]
    detail = f"{listens.detail} ({len(group)} sockets)"
    return msgspec.structs.replace(
        first,
        reach=widest.reach,
        handler=max((point.handler for point in group), key=lambda handler: handler.level.rank),
        evidence=(msgspec.structs.replace(listens, detail=detail), why),
        supposed=all(point.supposed for point in group),
    )


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _handler(item: Listener, by_pid: dict[int | None, Process], facts: Facts) -> Handler:
    """Who waits on the socket; where that was not seen, its most privileged holder, `assumed`."""
    waiting = [by_pid[pid] for pid in item.waiting if pid in by_pid]
    holders = [by_pid[pid] for pid in item.holders if pid in by_pid]
    if waiting:
        grade, how = Grade.OBSERVED, "waits on the socket (epoll set, accept or poll)"
    elif item.supposed:
        grade = Grade.ASSUMED
        how = "may hold the socket, which nobody is seen to hold and may be the kernel's own"
    elif not item.holders_seen:
        grade, how = Grade.ASSUMED, "the most privileged of those that may hold the socket"
    elif len(holders) == 1:
        grade, how = Grade.OBSERVED, "the only holder of the socket"
    else:
        grade, how = Grade.ASSUMED, "the most privileged holder; who waits on it was not seen"
    candidates = waiting or holders
    if not candidates:
        unknown = Evidence(Grade.ASSUMED, item.evidence.source, "no process is seen to hold it")
        return Handler(Level.ADMIN, unknown)
    chosen = max(candidates, key=lambda process: _level(process, facts).rank)
    credentials = chosen.credentials.value
    user = credentials.user if credentials is not None else ""
    if credentials is None:
        grade, how = Grade.ASSUMED, f"{how}; its user was not seen"
    others = f", like {len(candidates) - 1} more" if len(candidates) > 1 else ""
    detail = f"{chosen.name} as {user or 'unknown'} {how}{others}"
    source = f"/proc/{chosen.pid}/fdinfo" if waiting else f"/proc/{chosen.pid}/fd"
    level = _level(chosen, facts)
    return Handler(level, Evidence(grade, source, detail), chosen.program, chosen.pid, user)


def _level(process: Process, facts: Facts) -> Level:
    return Level.USER if is_admin(process, facts.container) is False else Level.ADMIN


def _declared_port(port: str, facts: Facts) -> EntryPoint:
    """`80/tcp` of a configuration, or a port that nobody stated."""
    number, _, protocol = port.partition("/")
    source = facts.config.evidence if facts.config is not None else None
    grade = Grade.DECLARED if port and source is not None else Grade.ASSUMED
    where = source.source if source is not None else facts.target.name
    detail = f"exposes {port}" if port else "no port declared: a listening socket is assumed"
    kind = protocol if protocol in ("tcp", "udp") else "tcp"
    return EntryPoint(
        id=f"{kind}:{number}" if number else f"{kind}:unstated",
        kind=kind,
        reach=Reach.INTERNET,
        handler=_declared_handler(facts),
        evidence=(
            Evidence(grade, where, detail),
            Evidence(Grade.ASSUMED, where, "published to everyone"),
        ),
        port=int(number) if number.isdigit() else None,
    )


def _declared_handler(facts: Facts) -> Handler:
    """Who will serve, as far as a configuration says: its user, else root as engines do."""
    program = facts.config.program.rsplit("/", 1)[-1] if facts.config is not None else ""
    if facts.processes:
        only = facts.processes[0]
        return Handler(_level(only, facts), only.credentials.evidence, program)
    config = facts.config
    if config is None:
        detail = "no user is set: engines then run it as root"
        return Handler(Level.ADMIN, Evidence(Grade.ASSUMED, facts.target.name, detail), program,
                       user="root")  # fmt: skip
    user, uid = config.user, config.uid
    grade, detail = Grade.DECLARED, f"user {user}"
    if not user:
        detail = "no user is set: engines then run it as root"
    elif uid is None:
        grade, detail = Grade.ASSUMED, f"user {user}, whom the image's accounts do not have"
    elif user.partition(":")[0] != str(uid):
        detail = f"user {user} (uid {uid})"
    level = Level.ADMIN if uid in (None, 0) else Level.USER
    return Handler(level, Evidence(grade, config.evidence.source, detail), program,
                   user=user or "root")  # fmt: skip


def _silent(facts: Facts) -> str:
    return f"{facts.silent} of {len(facts.processes)} processes do not show their sockets"


def _counts(facts: Facts, points: int) -> dict[str, Count]:
    counts: dict[str, Count] = {}
    if facts.tree is not None:
        counts.update(_of_the_tree(facts.tree))
    if facts.tree is not None and facts.tree.elf:
        counts.update(_weak_elf(facts.tree))
    if facts.processes:
        evidence = Evidence(Grade.OBSERVED, "/proc", "processes of the workload")
        counts["processes"] = Count(len(facts.processes), evidence)
    counts.update(_installed(facts))
    counts.update(_own(facts))
    if facts.silent:
        evidence = Evidence(Grade.ASSUMED, "/proc/*/fd", _silent(facts))
        counts[ENTRY_POINTS] = Count(points, evidence, at_least=True)
    calls = _calls_open(facts)
    if calls is not None:
        counts["system_calls"] = calls
    return counts


def _of_the_tree(tree: Tree) -> dict[str, Count]:
    """What was counted of the tree; of one that was read in part, what there is at least."""
    return {
        name: Count(value, tree.evidence, at_least=not tree.complete)
        if (value := getattr(tree.counts, name)) is not None
        else Count(None, Evidence(Grade.ASSUMED, tree.evidence.source, "not looked at"))
        for name in tree.counts.__struct_fields__
    }


def _weak_elf(tree: Tree) -> dict[str, Count]:
    """ELF files that lack a protection. No canary and no fortify say nothing of a file that needs
    neither, so they are not counted."""
    sound = [elf for elf in tree.elf.values() if not elf.problem]
    lacking = {
        "elf_executable_stack": [elf for elf in sound if not elf.nx and elf.kind != "relocatable"],
        "elf_writable_executable": [elf for elf in sound if elf.writable_executable],
        "elf_fixed_address": [elf for elf in sound if elf.kind == "executable"],
        "elf_no_relro": [elf for elf in sound if elf.relro == "none" and elf.kind != "relocatable"],
        "elf_broken": [elf for elf in tree.elf.values() if elf.problem],
    }
    return {
        name: Count(len(files), tree.evidence, at_least=not tree.complete)
        for name, files in lacking.items()
    }


def _installed(facts: Facts) -> dict[str, Count]:
    """What is installed on the host around a process that no container encloses."""
    host = facts.host
    if host is None or host.installed is None or facts.container or facts.target.kind == "host":
        return {}
    found, evidence = host.installed.value, host.installed.evidence
    if found is None:
        return {}
    return {"files": Count(found.files, evidence), "bytes": Count(found.bytes, evidence)}


def _own(facts: Facts) -> dict[str, Count]:
    """The files that the service's own code runs from: what a minimal image needs at least."""
    mapped: dict[str, int] = {}
    for process in facts.processes:
        if process.memory.value is not None:
            mapped.update(process.memory.value.mapped)
    if not mapped:
        return {}
    detail = "mapped code alone: configuration and data come on top"
    evidence = Evidence(Grade.OBSERVED, "/proc/*/maps", detail)
    programs = {process.executable for process in facts.processes if process.executable}
    return {
        "service_files": Count(len(mapped), evidence, at_least=True),
        "service_bytes": Count(sum(mapped.values()), evidence, at_least=True),
        "service_executables": Count(len(programs), evidence, at_least=True),
    }


def _calls_open(facts: Facts) -> Count | None:
    """System calls that the least filtered process may make; None where that was not seen."""
    best: Count | None = None
    for process in facts.processes:
        filters = process.seccomp.value
        if filters is None or not filters.calls:
            continue
        number = sum(1 for verdict in filters.calls.values() if "allow" in verdict.actions)
        if best is None or number > (best.value or 0):
            best = Count(number, filters.evidence)
    return best
