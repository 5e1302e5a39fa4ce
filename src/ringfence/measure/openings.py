"""From a deployment to its vectors: which ways are open, which are closed, and why."""

from __future__ import annotations

import msgspec

from ringfence.knowledge.records import Family, Knowledge, Opening, VectorEntry
from ringfence.measure.graph import Edge
from ringfence.measure.needs import Verdict, decide
from ringfence.model.deployment import Deployment, EntryPoint, Means, Reach
from ringfence.model.evidence import Evidence
from ringfence.model.need import Any, Leaf, Need, State
from ringfence.model.position import OUTSIDE, Level, Position

LANDING_ADMIN = "process:effective-capabilities"
LANDING_ROOT = "process:root-user"


class OpenVector(msgspec.Struct, frozen=True):
    """An open vector before it is weighed. `reach` is set for entry vectors alone."""

    id: str
    title: str
    edge: Edge
    need: Need
    level: Level
    conditions: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    origin: Opening
    reach: Reach | None = None


class ShutVector(msgspec.Struct, frozen=True):
    """A vector that is closed: the conditions that hold it shut, and their evidence."""

    id: str
    title: str
    conditions: tuple[str, ...]
    evidence: tuple[Evidence, ...]


class Openings(msgspec.Struct, frozen=True):
    """All vectors of a deployment, open and shut."""

    open: tuple[OpenVector, ...]
    shut: tuple[ShutVector, ...]


def find(deployment: Deployment, knowledge: Knowledge) -> Openings:
    """Every vector of the knowledge base, decided for this deployment."""
    opened: list[OpenVector] = []
    shut: list[ShutVector] = []
    for point in deployment.entry_points:
        opened += _entry_vectors(point, deployment, knowledge)
    for opening in knowledge.openings:
        decided = _decide_opening(opening, deployment)
        if isinstance(decided, OpenVector):
            opened.append(decided)
        elif isinstance(decided, ShutVector):
            shut.append(decided)
    return Openings(tuple(_with_known(opened, deployment)), tuple(shut))


def landing_need(deployment: Deployment) -> Need:
    """What must be open for an execution in a privileged handler to land on admin.

    In a container root counts only with effective capabilities; on a system of its own the
    user root owns the system's files, with or without them.
    """
    if deployment.workload_zone != deployment.kernel_zone:
        return Leaf(LANDING_ADMIN)
    return Any((Leaf(LANDING_ROOT), Leaf(LANDING_ADMIN)))


def landing(point: EntryPoint, deployment: Deployment) -> Position:
    """Where code execution through `point` puts the attacker."""
    if deployment.ring == 0:
        return Position(deployment.kernel_zone, Level.ADMIN)
    level = point.handler.level
    need = landing_need(deployment)
    if level is Level.ADMIN and not decide(need, deployment, Level.USER).open:
        level = Level.USER
    return Position(deployment.workload_zone, level)


def _entry_vectors(
    point: EntryPoint, deployment: Deployment, knowledge: Knowledge
) -> list[OpenVector]:
    vectors: list[OpenVector] = []
    for entry in knowledge.vectors.values():
        if entry.kind != "entry" or entry.entry != point.kind:
            continue
        means = point.leak if entry.outcome == "leak" else point.execution
        if means is not None:
            vectors.append(_entry_vector(point, entry, means, deployment))
    return vectors


def _entry_vector(
    point: EntryPoint, entry: VectorEntry, means: Means, deployment: Deployment
) -> OpenVector:
    gives = landing(point, deployment)
    evidence = (*point.evidence, point.handler.evidence)
    if entry.outcome == "leak":
        gives = Position(deployment.workload_zone, Level.DATA)
        evidence = point.evidence
    program = point.handler.program or point.id
    return OpenVector(
        id=f"{point.id}.{entry.outcome}",
        title=f"{entry.title} ({point.id})",
        edge=Edge(OUTSIDE, gives, means, f"{program}:{entry.outcome}"),
        need=entry.needs,
        level=Level.USER,
        conditions=(),
        evidence=evidence,
        origin=entry,
        reach=point.reach,
    )


def _decide_opening(opening: Opening, deployment: Deployment) -> OpenVector | ShutVector | None:
    """The opening decided here; None where it makes no sense in this deployment."""
    if opening.only == "container" and deployment.workload_zone == deployment.kernel_zone:
        return None
    escalates = not isinstance(opening, Family) or opening.escalates
    first = position(opening.from_, deployment)
    verdict = None
    for source in _sources(first, deployment):
        gives = position(opening.gives, deployment) if escalates else source
        if escalates and not gains(source, gives, deployment):
            continue
        level = Level.ADMIN if source.level is Level.ADMIN else Level.USER
        verdict = _with_probe(opening, decide(opening.needs, deployment, level), deployment, level)
        if verdict.open:
            return _opened(opening, source, gives, level, verdict)
    if verdict is None:
        return None
    return ShutVector(opening.id, opening.title, verdict.conditions, verdict.evidence)


PROBED = "probe:"
"""A condition of this name and an opening's id: the opening as a whole was tried."""


def _with_probe(
    opening: Opening, verdict: Verdict, deployment: Deployment, level: Level
) -> Verdict:
    """What was tried closes an opening that seems open, and is better evidence for one that is.
    It never opens one: what it found open against the configuration stands in its conditions."""
    name = f"{PROBED}{opening.id}"
    if name not in deployment.conditions or not verdict.open:
        return verdict
    tried = deployment.condition(name, level)
    if tried.state is State.CLOSED:
        return Verdict(False, (name,), tried.evidence)
    if not tried.evidence:
        return verdict
    return Verdict(True, verdict.conditions, tried.evidence)


def _opened(
    opening: Opening, source: Position, gives: Position, level: Level, verdict: Verdict
) -> OpenVector:
    return OpenVector(
        id=opening.id,
        title=opening.title,
        edge=Edge(source, gives, opening.means, opening.vulnerability),
        need=opening.needs,
        level=level,
        conditions=verdict.conditions,
        evidence=verdict.evidence,
        origin=opening,
    )


def _sources(first: Position, deployment: Deployment) -> list[Position]:
    """Where the vector may start: as the service first, then as admin of the service's zone."""
    if first == Position(deployment.workload_zone, Level.USER):
        return [first, Position(first.zone, Level.ADMIN)]
    return [first]


def position(relative: str, deployment: Deployment) -> Position:
    """A position of the knowledge base (`kernel:admin`) as one of this deployment's."""
    role, _, level = relative.partition(":")
    zone = {
        "workload": deployment.workload_zone,
        "kernel": deployment.kernel_zone,
        "machine": deployment.machine_zone,
    }[role]
    return Position(zone, Level(level))


def gains(source: Position, gives: Position, deployment: Deployment) -> bool:
    """Whether `gives` is more than what `source` already holds."""
    zones = [zone.name for zone in deployment.zones]
    if source.level is None or gives.level is None:
        return source.level is None
    if source.zone == gives.zone:
        return gives.level.rank > source.level.rank
    inward = zones.index(gives.zone) < zones.index(source.zone)
    return not (inward and source.level is Level.ADMIN)


def _with_known(vectors: list[OpenVector], deployment: Deployment) -> list[OpenVector]:
    """A published vulnerability turns `zero-day` into `known`, and never adds a vector."""
    known = {item.vector: item for item in deployment.known}
    result = []
    for vector in vectors:
        item = known.get(vector.id)
        if item is not None and vector.edge.means is Means.ZERO_DAY:
            edge = msgspec.structs.replace(vector.edge, means=Means.KNOWN)
            evidence = (*vector.evidence, item.evidence)
            vector = msgspec.structs.replace(vector, edge=edge, evidence=evidence)
        result.append(vector)
    return result
