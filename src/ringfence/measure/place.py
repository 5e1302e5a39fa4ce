"""Places a service into another deployment: what is its own stays, what encloses it is replaced."""

from __future__ import annotations

import msgspec

from ringfence.knowledge.records import Knowledge, Template, TemplateConditions
from ringfence.knowledge.vocabulary import OF_THE_KERNEL
from ringfence.measure.needs import decide
from ringfence.measure.openings import LANDING_ADMIN, LANDING_ROOT, landing_need
from ringfence.model.deployment import (
    ENTRY_POINTS,
    Asset,
    Boundary,
    Condition,
    Count,
    Deployment,
    EntryPoint,
    Zone,
)
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.need import State, matches
from ringfence.model.position import Level

SEPARATION = "process:privileged-parent"
ROOT_ID = "process:root-id"
SERVICES_OWN = "service_"
SYSTEM_CALLS = "system_calls"
UNFILTERED = "seccomp:absent"
OF_THE_TREE = frozenset(
    "files bytes executables libraries setuid shells interpreters compilers package_managers "
    "elf packages elf_executable_stack elf_writable_executable elf_fixed_address elf_no_relro "
    "elf_broken".split()
)


def place(service: Deployment, template: Template, knowledge: Knowledge) -> Deployment:
    """`service` as it would stand in `template`.

    Kept: its entry points, and what the template's `keep` names and was measured; what was measured
    of a kernel that is not under it there, but by definition alike, is kept as `assumed`. Replaced:
    zones, boundaries and every other condition, graded `assumed` with the template as source.
    """
    source = Evidence(Grade.ASSUMED, f"deployments/{template.id}.toml", template.version)
    names = (*knowledge.conditions, *service.conditions)
    user = {name: _state(name, template, service, source) for name in names}
    admin = {
        name: condition
        for name in names
        if (condition := _override(name, template.admin, source)) is not None
    }
    placed = Deployment(
        name=template.id,
        zones=_zones(template),
        kernel_zone=template.kernel_zone,
        ring=template.ring,
        boundaries=tuple(Boundary(line.kind, line.zone) for line in template.boundaries),
        entry_points=_entry_points(service, template, source),
        conditions={**user, **_identity(service, template, source)},
        admin_conditions=admin,
        default=_default(template.conditions, source),
        counts=_counts(service, template, source),
        notes=_notes(service, template),
        lower_bound=template.lower_bound,
        unseen=service.unseen,
    )
    return msgspec.structs.replace(
        placed, admin_conditions=_without(admin, (LANDING_ADMIN, LANDING_ROOT))
    )


def _without(conditions: dict[str, Condition], names: tuple[str, ...]) -> dict[str, Condition]:
    return {name: state for name, state in conditions.items() if name not in names}


def _state(name: str, template: Template, service: Deployment, source: Evidence) -> Condition:
    rules, measured = template.conditions, service.conditions.get(name)
    if measured is not None and any(matches(pattern, name) for pattern in rules.keep):
        known = any(item.grade.rank >= Grade.DECLARED.rank for item in measured.evidence)
        if known and measured.state is not State.UNKNOWN:
            alike = template.kernel == "alike" and name.startswith(OF_THE_KERNEL)
            return _supposed(measured, source) if alike else measured
    stated = _override(name, rules, source)
    return stated if stated is not None else _default(rules, source)


def _supposed(measured: Condition, source: Evidence) -> Condition:
    """What another kernel shows that is alike by definition: nobody has looked at this one."""
    evidence = tuple(_as_supposed(item, source) for item in measured.evidence)
    return msgspec.structs.replace(measured, evidence=evidence)


def _as_supposed(seen: Evidence, source: Evidence) -> Evidence:
    """Evidence of the measured kernel, for one that is supposed to be the same."""
    shown = ": ".join(filter(None, (seen.source, seen.detail)))
    detail = f"supposed to run the measured kernel, which shows {shown}"
    return msgspec.structs.replace(source, grade=Grade.ASSUMED, detail=detail)


def _default(rules: TemplateConditions, source: Evidence) -> Condition:
    return Condition(State(rules.default), (source,), stated=False)


def _override(name: str, rules: TemplateConditions, source: Evidence) -> Condition | None:
    """What the rules say of a condition: an exact id beats a pattern, a longer one a shorter."""
    best: tuple[int, State] | None = None
    lists = ((State.OPEN, rules.open), (State.CLOSED, rules.closed), (State.UNKNOWN, rules.unknown))
    for state, patterns in lists:
        for pattern in patterns:
            length = len(pattern) + (not pattern.endswith("*"))
            if matches(pattern, name) and (best is None or length > best[0]):
                best = (length, state)
    return Condition(best[1], (source,)) if best is not None else None


def _zones(template: Template) -> tuple[Zone, ...]:
    return tuple(
        Zone(zone.name, tuple(Asset(item.kind, item.title, item.level) for item in zone.assets))
        for zone in template.zones
    )


def _carries(template: Template) -> bool:
    """Whether the service's own users and processes survive in this deployment."""
    return template.service.separation and template.service.user == "as-service"


def _entry_points(
    service: Deployment, template: Template, source: Evidence
) -> tuple[EntryPoint, ...]:
    """The service's entry points; who handles their bytes is the template's, if it decides."""
    levels = {"unprivileged": Level.USER, "root": Level.ADMIN, "kernel": Level.ADMIN}
    forced = levels.get(template.service.user)
    if forced is None and not template.service.separation:
        forced = Level.ADMIN if _privileged(service) else Level.USER
    if forced is None:
        return service.entry_points
    detail = f"the service runs as {template.service.user} in {template.id}"
    evidence = msgspec.structs.replace(source, detail=detail)
    return tuple(
        msgspec.structs.replace(
            point,
            handler=msgspec.structs.replace(
                point.handler, level=forced, evidence=evidence, user=""
            ),
        )
        for point in service.entry_points
    )


def _privileged(service: Deployment) -> bool:
    """Whether some process of the service is admin of its zone."""
    return decide(landing_need(service), service, Level.USER).open


def _identity(service: Deployment, template: Template, source: Evidence) -> dict[str, Condition]:
    """Root, capabilities and the split between master and workers, where they are the service's."""
    if _carries(template):
        kept = {}
        for name in (LANDING_ADMIN, LANDING_ROOT, ROOT_ID, SEPARATION):
            kept[name] = service.condition(name, Level.USER)
        return kept
    privileged = template.service.user in ("root", "kernel") or (
        template.service.user == "as-service" and _privileged(service)
    )
    state = Condition(State.OPEN if privileged else State.CLOSED, (source,))
    lost = Condition(State.CLOSED, (source,))
    return {LANDING_ADMIN: state, LANDING_ROOT: state, ROOT_ID: lost, SEPARATION: lost}


def _notes(service: Deployment, template: Template) -> tuple[str, ...]:
    separated = service.condition(SEPARATION, Level.USER).state is State.OPEN
    if separated and not template.service.separation:
        lost = "the service's own privilege separation between processes is lost here"
        return (*template.notes, lost)
    return template.notes


def _counts(service: Deployment, template: Template, source: Evidence) -> dict[str, Count]:
    """Counts of the file tree stay where the tree stays; the rest are the template's figures. In
    the kernel's ring there are no system calls to count: that is no open number of none."""
    keeps_tree = any(matches(pattern, "file:shell") for pattern in template.conditions.keep)
    kept = {
        name: count for name, count in service.counts.items() if keeps_tree and name in OF_THE_TREE
    }
    if template.service.files_alone:
        kept = {
            name.removeprefix(SERVICES_OWN): count
            for name, count in service.counts.items()
            if name.startswith(SERVICES_OWN)
        }
    if ENTRY_POINTS in service.counts:
        kept[ENTRY_POINTS] = service.counts[ENTRY_POINTS]
    calls = service.counts.get(SYSTEM_CALLS)
    free = service.condition(UNFILTERED, Level.USER).state is State.OPEN
    if calls is not None and free and UNFILTERED in template.conditions.open:
        # No filter here and none there, on the same kernel: every call of the table.
        if template.kernel == "measured":
            kept[SYSTEM_CALLS] = calls
        elif template.kernel == "alike":
            kept[SYSTEM_CALLS] = msgspec.structs.replace(
                calls, evidence=_as_supposed(calls.evidence, source)
            )
    if template.ring == 0:
        detail = "none to count: in the kernel's ring they are function calls, and all can be made"
        kept[SYSTEM_CALLS] = Count(None, msgspec.structs.replace(source, detail=detail))
    stated = {
        name: Count(count.value, Evidence(Grade.ASSUMED, count.source))
        for name, count in template.counts.items()
    }
    return {**kept, **stated}
