"""A deployment written by hand: the TOML form of docs/declared.md, as a target like any other.

What a file says is of grade `declared`, even where it was measured once: a file cannot prove it.
A mechanism whose `state` differs from the `measured` beside it is a what-if: turning it on closes
all that it closes, turning it off opens its signs, whatever the conditions say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from ringfence.collect.contradictions import contradiction
from ringfence.errors import InputError
from ringfence.knowledge.records import Knowledge, Mechanism
from ringfence.knowledge.vocabulary import check_condition, vector_ids
from ringfence.model.deployment import Asset as ZoneAsset
from ringfence.model.deployment import (
    AssetKind,
    BoundaryKind,
    Condition,
    Count,
    Deployment,
    EntryPoint,
    Handler,
    KnownVulnerability,
    Means,
    Reach,
    Switch,
    Zone,
)
from ringfence.model.deployment import Boundary as ZoneBoundary
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.need import State, matches
from ringfence.model.position import Level
from ringfence.untrusted import read_toml

KIND = "declared"
SCHEMA = "ringfence.deployment/1"
MOST_BYTES = 8 << 20
MOST_ZONES = 64
"""Zones lie in each other: each is compared with all inside it. A real stack has five."""
MOST_ENTRY_POINTS = 1 << 14
"""A plan takes some milliseconds for each of them."""
ADMIN_HANDLER = ("process:root-user", "process:root-id", "process:effective-capabilities")
"""Open where an admin handles the bytes and the file says nothing else."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file: a field that it does not know is an error, not a silent nothing."""


class DeclaredEvidence(_Strict, frozen=True):
    """Where a statement comes from, in the author's words."""

    source: str = ""
    detail: str = ""
    grade: Grade = Grade.DECLARED


class DeclaredAsset(_Strict, frozen=True):
    """What a zone holds, and from which level."""

    kind: AssetKind
    title: str = ""
    level: Level = Level.ADMIN


class DeclaredZone(_Strict, frozen=True):
    """A zone, innermost first in the file."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    assets: tuple[DeclaredAsset, ...] = ()


class DeclaredMechanism(_Strict, frozen=True):
    """A mechanism's state; `measured` remembers what was seen when the file was written."""

    id: str
    state: Switch
    measured: Switch | None = None


class DeclaredBoundary(_Strict, frozen=True):
    """A boundary, innermost first in the file."""

    kind: BoundaryKind
    zone: str
    mechanisms: tuple[DeclaredMechanism, ...] = ()


class DeclaredHandler(_Strict, frozen=True):
    """Who handles the bytes of an entry point."""

    level: Level = Level.USER
    program: str = ""
    user: str = ""
    evidence: DeclaredEvidence = DeclaredEvidence()


class DeclaredEntryPoint(_Strict, frozen=True):
    """An entry point; `leak = "none"` and `execution = "none"` leave a vector out, and
    `supposed = true` is for one that may not be the service's at all."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    kind: str = "tcp"
    reach: Reach = Reach.INTERNET
    address: str = ""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    supposed: bool = False
    handler: DeclaredHandler = DeclaredHandler()
    leak: str = Means.ZERO_DAY.value
    execution: str = Means.ZERO_DAY.value
    evidence: tuple[DeclaredEvidence, ...] = ()


class DeclaredLists(_Strict, frozen=True):
    """Conditions by state; ids or patterns that end in `*`."""

    open: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class DeclaredConditions(_Strict, frozen=True):
    """Conditions by state, and the state of all others; `admin` overrides for the zone's admin."""

    default: State = State.UNKNOWN
    open: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    admin: DeclaredLists = DeclaredLists()


class DeclaredCondition(_Strict, frozen=True):
    """One condition with its evidence; without a level it holds for both."""

    id: str
    state: State
    level: Level = Level.USER
    evidence: tuple[DeclaredEvidence, ...] = ()


class DeclaredKnown(_Strict, frozen=True):
    """A published vulnerability in a vector's interface."""

    vector: str
    cve: Annotated[str, msgspec.Meta(pattern=r"^CVE-[0-9]{4}-[0-9]{4,}\Z")]


class DeclaredCount(_Strict, frozen=True):
    """A count and where it comes from."""

    value: Annotated[int, msgspec.Meta(ge=0)] | None = None
    source: str = ""
    at_least: bool = False


class Document(_Strict, frozen=True):
    """The whole file."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    zones: Annotated[tuple[DeclaredZone, ...], msgspec.Meta(min_length=1)]
    schema: str = SCHEMA
    kernel_zone: str = ""
    ring: int = 3
    lower_bound: bool = False
    boundaries: tuple[DeclaredBoundary, ...] = ()
    entry_points: tuple[DeclaredEntryPoint, ...] = ()
    conditions: DeclaredConditions = DeclaredConditions()
    condition: tuple[DeclaredCondition, ...] = ()
    known: tuple[DeclaredKnown, ...] = ()
    counts: dict[str, DeclaredCount] = {}
    notes: tuple[str, ...] = ()


def read_declared(path: Path, knowledge: Knowledge) -> Deployment:
    """The deployment that a TOML file states. Raises InputError naming file and place."""
    document = _document(path)
    problem = _problem(document, knowledge)
    if problem:
        raise InputError(problem, where=str(path), remedy="see docs/declared.md")
    user, admin = _states(document, knowledge, path)
    return Deployment(
        name=document.name,
        zones=tuple(_zone(zone) for zone in document.zones),
        kernel_zone=document.kernel_zone or _kernel_zone(document),
        ring=document.ring,
        boundaries=_boundaries(document),
        entry_points=tuple(_entry_point(point, path) for point in document.entry_points),
        conditions=user,
        admin_conditions=admin,
        default=Condition(
            document.conditions.default, (Evidence(Grade.DECLARED, str(path)),), stated=False
        ),
        counts={
            name: Count(
                item.value, Evidence(Grade.DECLARED, item.source or str(path)), item.at_least
            )
            for name, item in document.counts.items()
        },
        known=tuple(
            KnownVulnerability(item.vector, item.cve, Evidence(Grade.DECLARED, str(path), item.cve))
            for item in document.known
        ),
        notes=document.notes,
        lower_bound=document.lower_bound,
    )


def _document(path: Path) -> Document:
    try:
        return msgspec.convert(read_toml(path, MOST_BYTES), Document, strict=True)
    except msgspec.ValidationError as error:
        raise InputError(str(error), where=str(path), remedy="see docs/declared.md") from None


def _boundaries(document: Document) -> tuple[ZoneBoundary, ...]:
    """Those of the file; without any, those that every service has."""
    if document.boundaries:
        return tuple(ZoneBoundary(line.kind, line.zone) for line in document.boundaries)
    zone, kernel = document.zones[0].name, document.kernel_zone or _kernel_zone(document)
    lines = [ZoneBoundary(BoundaryKind.PROCESS, zone)]
    if kernel != zone:
        lines.append(ZoneBoundary(BoundaryKind.CONTAINER, zone))
    lines.append(ZoneBoundary(BoundaryKind.KERNEL, kernel))
    return (*lines, ZoneBoundary(BoundaryKind.NETWORK, zone))


def _kernel_zone(document: Document) -> str:
    """Where nothing is said: a container's kernel is that of the zone around it."""
    contained = any(line.kind is BoundaryKind.CONTAINER for line in document.boundaries)
    return document.zones[1 if contained and len(document.zones) > 1 else 0].name


def _problem(document: Document, knowledge: Knowledge) -> str:
    """What in the document does not fit together or is not in the knowledge base, or ''."""
    names = [zone.name for zone in document.zones]
    if document.schema != SCHEMA:
        return f"schema is {document.schema!r}, this version reads {SCHEMA!r}"
    if len(names) > MOST_ZONES:
        return f"has {len(names)} zones, the most is {MOST_ZONES}"
    if len(set(names)) != len(names) or "outside" in names:
        return "zones need different names, and none may be called 'outside'"
    for zone in (document.kernel_zone or names[0], *(line.zone for line in document.boundaries)):
        if zone not in names:
            return f"there is no zone {zone!r}: zones are {', '.join(names)}"
    if document.ring not in (0, 3):
        return f"ring is {document.ring}, must be 0 or 3"
    ids = [point.id for point in document.entry_points]
    if len(ids) > MOST_ENTRY_POINTS:
        return f"has {len(ids):,} entry points, the most is {MOST_ENTRY_POINTS:,}"
    if len(set(ids)) != len(ids):
        return "entry points need different ids"
    return _unknown_name(document, knowledge) or contradiction(document, knowledge)


def _unknown_name(document: Document, knowledge: Knowledge) -> str:
    for line in document.boundaries:
        for mechanism in line.mechanisms:
            if mechanism.id not in knowledge.mechanisms:
                return f"no mechanism {mechanism.id!r} in the knowledge base"
    kinds = {entry.entry for entry in knowledge.vectors.values() if entry.kind == "entry"}
    for point in document.entry_points:
        if point.kind not in kinds:
            return (
                f"entry point {point.id}: kind {point.kind!r} is none of {', '.join(sorted(kinds))}"
            )
        for means in (point.leak, point.execution):
            if means != "none" and means not in set(Means):
                return (
                    f"entry point {point.id}: means {means!r} is none of none, {', '.join(Means)}"
                )
    lists = (document.conditions, document.conditions.admin)
    stated = [name for rules in lists for name in (*rules.open, *rules.closed, *rules.unknown)]
    for name in (*stated, *(item.id for item in document.condition)):
        problem = check_condition(name, knowledge)
        if problem:
            return problem
        if name in knowledge.formulas:
            return f"{name!r} is a formula: name its conditions: ringfence explain {name}"
    for item in document.condition:
        if item.id.endswith("*"):
            return f"condition {item.id!r}: a pattern stands in the lists of [conditions] alone"
    possible = vector_ids((point.id for point in document.entry_points), knowledge)
    for known in document.known:
        if known.vector not in possible:
            return f"known: there is no vector {known.vector!r}"
    return ""


def _zone(zone: DeclaredZone) -> Zone:
    assets = (
        ZoneAsset(item.kind, item.title or item.kind.value, item.level) for item in zone.assets
    )
    return Zone(zone.name, tuple(assets))


def _evidence(item: DeclaredEvidence, path: Path) -> Evidence:
    """A file can lower a grade, never raise it above `declared`."""
    grade = item.grade if item.grade.rank < Grade.DECLARED.rank else Grade.DECLARED
    return Evidence(grade, item.source or str(path), item.detail)


def _entry_point(point: DeclaredEntryPoint, path: Path) -> EntryPoint:
    handler = point.handler
    stated = tuple(_evidence(item, path) for item in point.evidence)
    return EntryPoint(
        id=point.id,
        kind=point.kind,
        reach=point.reach,
        handler=Handler(
            handler.level, _evidence(handler.evidence, path), handler.program, user=handler.user
        ),
        evidence=stated or (Evidence(Grade.DECLARED, str(path), f"entry point {point.id}"),),
        address=point.address,
        port=point.port,
        supposed=point.supposed,
        leak=None if point.leak == "none" else Means(point.leak),
        execution=None if point.execution == "none" else Means(point.execution),
    )


def _states(
    document: Document, knowledge: Knowledge, path: Path
) -> tuple[dict[str, Condition], dict[str, Condition]]:
    """The conditions of the service's own level, and those that differ for the zone's admin."""
    names = knowledge.conditions
    said = Evidence(Grade.DECLARED, str(path))
    mechanisms = _mechanisms(document, knowledge)
    user = _from_mechanisms(mechanisms["stated"], names, said)
    admin: dict[str, Condition] = {}
    user.update(_from_lists(document.conditions, names, said))
    admin.update(_from_lists(document.conditions.admin, names, said))
    for item in document.condition:
        evidence = tuple(_evidence(one, path) for one in item.evidence) or (said,)
        target = admin if item.level is Level.ADMIN else user
        target[item.id] = Condition(item.state, evidence)
    for holds_admin in (False, True):
        chosen = [item for item in mechanisms["changed"] if item[0].holds_admin is holds_admin]
        changed = _from_mechanisms(chosen, names, said)
        if holds_admin:
            admin.update({name: state for name, state in changed.items() if name in admin})
        else:
            admin = {**{name: user[name] for name in changed if name in user}, **admin}
        user.update(changed)
    if any(point.handler.level is Level.ADMIN for point in document.entry_points):
        for name in ADMIN_HANDLER:
            user.setdefault(name, Condition(State.OPEN, (said,)))
    return user, admin


Stated = list[tuple[Mechanism, Switch]]


def _mechanisms(document: Document, knowledge: Knowledge) -> dict[str, Stated]:
    """Mechanisms that are simply stated, and those that were changed after a measurement."""
    found: dict[str, Stated] = {"stated": [], "changed": []}
    for line in document.boundaries:
        for item in line.mechanisms:
            entry = (knowledge.mechanisms[item.id], item.state)
            if item.measured is None:
                found["stated"].append(entry)
            elif item.measured is not item.state:
                found["changed"].append(entry)
    return found


def _from_mechanisms(
    stated: Stated, names: tuple[str, ...], said: Evidence
) -> dict[str, Condition]:
    """What mechanisms say of conditions: off opens signs, on closes; closing wins."""
    made: dict[str, Condition] = {}
    for wanted, state in ((Switch.OFF, State.OPEN), (Switch.ON, State.CLOSED)):
        for mechanism, switch in stated:
            if switch is not wanted:
                continue
            patterns = mechanism.closes if switch is Switch.ON else mechanism.signs
            evidence = msgspec.structs.replace(said, detail=f"{mechanism.id} is {switch}")
            for name in names:
                if any(matches(pattern, name) for pattern in patterns):
                    made[name] = Condition(state, (evidence,))
    return made


def _from_lists(
    rules: DeclaredConditions | DeclaredLists, names: tuple[str, ...], said: Evidence
) -> dict[str, Condition]:
    """Conditions from lists of ids and patterns: an exact id beats a pattern, a longer pattern a
    shorter one, as in a template."""
    stated = [
        (pattern, state)
        for state, patterns in (
            (State.OPEN, rules.open),
            (State.UNKNOWN, rules.unknown),
            (State.CLOSED, rules.closed),
        )
        for pattern in patterns
    ]
    made: dict[str, Condition] = {}
    for pattern, state in sorted(stated, key=lambda row: (not row[0].endswith("*"), len(row[0]))):
        several = pattern.endswith("*")
        found = [name for name in names if matches(pattern, name)] if several else [pattern]
        made.update(dict.fromkeys(found, Condition(state, (said,))))
    return made
