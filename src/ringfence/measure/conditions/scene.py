"""The scene: a target's facts, and the footholds from which its conditions are judged."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ringfence.knowledge.records import Knowledge
from ringfence.model.deployment import Condition
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.facts import Facts
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import Process

T = TypeVar("T")

ROOT_EQUIVALENT = frozenset(
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_MKNOD CAP_SETFCAP CAP_SETGID "
    "CAP_SETPCAP CAP_SETUID CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_MODULE CAP_SYS_PTRACE "
    "CAP_SYS_RAWIO CAP_BPF CAP_PERFMON".split()
)
"""Capabilities that give or lead straight to root: B. Spengler, "False Boundaries and Arbitrary
Code Execution" (forums.grsecurity.net, 2011), with the later splits of CAP_SYS_ADMIN."""

NOBODY = 65534


class Foothold(msgspec.Struct, frozen=True):
    """Code of the attacker's, running inside one process's confinement.

    `supposed` is set where no such process was seen: the confinement is that of `process`, the
    identity is what an attacker at this level would have.
    """

    process: Process
    uid: int | None
    gid: int | None
    groups: frozenset[int]
    capabilities: frozenset[str] | None
    supposed: bool

    @property
    def note(self) -> str:
        """How evidence names it."""
        return f"{self.process.name} (as another user)" if self.supposed else self.process.name


class Scene(msgspec.Struct, frozen=True):
    """What a condition is decided from."""

    facts: Facts
    knowledge: Knowledge
    user: tuple[Foothold, ...]
    admin: tuple[Foothold, ...]

    def footholds(self, level: Level) -> tuple[Foothold, ...]:
        """The footholds of code at `level`; empty for a target without processes."""
        return self.admin if level is Level.ADMIN else self.user


def is_admin(process: Process, container: bool) -> bool | None:
    """Whether the process has admin of its zone; None where its credentials were not seen.

    On a system of its own the user root does, since it owns the system's files. In a container
    root counts with privileges alone, and so does anyone who holds them. What can be taken back
    with one call counts as held: a saved user, a permitted capability. Capabilities over a user
    namespace of the process's own, which any user may make, are none over the system.
    """
    credentials = process.credentials.value
    if credentials is None:
        return None
    if credentials.usable & ROOT_EQUIVALENT and (container or over_system(process)):
        return True
    return credentials.root and not container


def over_system(process: Process) -> bool:
    """Whether its capabilities may hold over the system: in the first user namespace (not seen
    counts as yes), or in one that user 0 is mapped into, whose files they then override."""
    credentials = process.credentials.value
    if credentials is not None and credentials.root_mapped:
        return True
    return namespace_shared(process, "user").value is not False


def scene(facts: Facts, knowledge: Knowledge) -> Scene:
    """The scene of `facts`, with the footholds that its processes give."""
    user = _distinct([p for p in facts.processes if is_admin(p, facts.container) is False])
    admin = _distinct([p for p in facts.processes if is_admin(p, facts.container)])
    unknown = _distinct([p for p in facts.processes if is_admin(p, facts.container) is None])
    some = (*user, *admin, *unknown)
    return Scene(
        facts=facts,
        knowledge=knowledge,
        user=tuple(_actual(p) for p in user) or tuple(_unprivileged(p) for p in some),
        admin=tuple(_actual(p) for p in admin) or tuple(_root(p) for p in some),
    )


def _distinct(processes: list[Process]) -> tuple[Process, ...]:
    """One process of each set that is confined alike: eight equal workers are one foothold."""
    found: dict[bytes, Process] = {}
    for process in processes:
        found.setdefault(msgspec.json.encode(_judged(process), order="deterministic"), process)
    return tuple(found.values())


def _judged(process: Process) -> tuple[object, ...]:
    """All that conditions look at of one process. Of what is only counted or named in evidence
    (writable mappings, the other programs of its user), no more than what decides: workers that
    differ in nothing else stay one foothold."""
    who, filters = process.credentials.value, process.seccomp.value
    memory, image, limits = process.memory.value, process.image.value, process.limits.value
    mounts, hints = process.mounts.value, process.environment.value
    return (
        process.program,
        who and (who.uid, who.uids, who.gid, frozenset(who.groups), who.root_mapped),
        who and (who.usable, who.bounding),
        process.no_new_privileges.value,
        filters and (filters.mode, filters.calls, filters.asked),
        [(space.kind, space.inode) for space in process.namespaces],
        process.mac_label.value,
        mounts and [(item.path, item.root, item.fstype, item.options, item.device, item.hidden)
                    for item in mounts],
        process.paths_seen,
        process.outside_seen,
        sorted({(item.host, item.under, item.namespace) for item in process.outside}),
        [(fact.id, fact.path, fact.kind, fact.mode, fact.uid, fact.gid, fact.read_only,
          fact.device_allowed, fact.acl) for fact in process.paths],
        limits and (limits.memory_bytes, limits.pids, limits.cpu_quota, limits.devices.value),
        hints if hints is None else {hint.name for hint in hints},
        memory and (memory.writable_executable > 0, memory.executable_stack),
        image and (image.kind, image.nx, image.writable_executable, image.canary, image.relro,
                   image.fortify),
        _any(process.neighbours.value),
        process.terminal.value,
    )  # fmt: skip


def _any(found: tuple[str, ...] | None) -> bool | None:
    return None if found is None else bool(found)


def _actual(process: Process) -> Foothold:
    credentials = process.credentials.value
    if credentials is None:
        return Foothold(process, None, None, frozenset(), None, False)
    return Foothold(
        process,
        0 if credentials.root else credentials.uid,
        credentials.gid,
        frozenset(credentials.groups),
        credentials.usable,
        False,
    )


def _unprivileged(process: Process) -> Foothold:
    """Where everything runs privileged: unprivileged code in the same confinement."""
    return Foothold(process, NOBODY, NOBODY, frozenset(), frozenset(), True)


def _root(process: Process) -> Foothold:
    """Root inside: the bounding set is the most that it could ever hold."""
    credentials = process.credentials.value
    bounding = credentials.bounding if credentials is not None else None
    shared = namespace_shared(process, "user")
    uid = 0 if shared.value else None
    return Foothold(process, uid, uid, frozenset(), bounding, True)


def namespace_shared(process: Process, kind: str) -> Seen[bool]:
    """Whether the process is in init's namespace of this kind."""
    for space in process.namespaces:
        if space.kind == kind:
            return space.shared
    return Seen(None, Evidence(Grade.ASSUMED, f"{process.name}: {kind} namespace", "not seen"))


def from_seen(seen: Seen[bool], *, open_when: bool) -> Condition:
    """A condition from a yes-or-no fact: open when the fact equals `open_when`."""
    if seen.value is None:
        return Condition(State.UNKNOWN, (seen.evidence,))
    return Condition(State.OPEN if seen.value is open_when else State.CLOSED, (seen.evidence,))


def unknown(source: str, detail: str = "not seen") -> Condition:
    """A condition that could not be decided, and why."""
    return Condition(State.UNKNOWN, (Evidence(Grade.ASSUMED, source, detail),))


def opened(evidence: Evidence) -> Condition:
    """An open condition."""
    return Condition(State.OPEN, (evidence,))


def closed(evidence: Evidence) -> Condition:
    """A closed condition."""
    return Condition(State.CLOSED, (evidence,))


def noted(evidence: Evidence, detail: str) -> Evidence:
    """`evidence` with another detail."""
    return msgspec.structs.replace(evidence, detail=detail)


def widest(conditions: list[Condition]) -> Condition:
    """What an attacker gets who may choose the foothold: open, else unknown, else closed."""
    order = (State.OPEN, State.UNKNOWN, State.CLOSED)
    return min(conditions, key=lambda condition: order.index(condition.state))
