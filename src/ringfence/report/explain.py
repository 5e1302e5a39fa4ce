"""What an id means: the entry of the knowledge base behind it, in words."""

from __future__ import annotations

from ringfence.knowledge.records import (
    Entry,
    Family,
    Formula,
    Knowledge,
    Mechanism,
    Opening,
    Scale,
    Sophistication,
    Start,
    Template,
    VectorEntry,
)
from ringfence.model.need import leaves, matches, render

CONDITION_KINDS = {
    "account": "a rule of sudo or polkit for the service's user",
    "cap": "a capability over the first user namespace",
    "code": "a protection that the serving program lacks",
    "device": "a device that the guest sees",
    "feature": "a feature of the running kernel",
    "file": "files of a kind in the workload's tree",
    "guard": "a host-wide mechanism that is absent",
    "kernel": "a property of the kernel",
    "limit": "a cgroup limit that is absent",
    "mac": "a mandatory access control module that does not confine",
    "monitor": "how the machine's monitor is confined",
    "mount": "a mount, or an option of one",
    "namespace": "a namespace shared with init",
    "net": "network filtering that is absent",
    "nscap": "a capability over the workload's own user namespace",
    "path": "a path that the service's user may use",
    "process": "a property of the workload's processes",
    "ring": "the ring in which the application runs",
    "seccomp": "system call filtering that is absent",
    "syscall": "a system call that no filter refuses",
    "sysctl": "a kernel setting with such a value",
}


def explain(name: str, knowledge: Knowledge) -> str | None:
    """The explanation of any id that a report prints; None where there is no such id."""
    for entries in _tables(knowledge):
        if name in entries:
            return _entry(entries[name], knowledge)
    outcome = name.rpartition(".")[2]
    if outcome in ("leak", "execution"):
        return _entry_vector(name, outcome, knowledge)
    if name.partition(":")[0] in {entry.entry for entry in knowledge.vectors.values()} - {""}:
        ways = (_entry_vector(f"{name}.{word}", word, knowledge) for word in ("leak", "execution"))
        return "\n".join(ways)
    if ":" in name and name.partition(":")[0] in CONDITION_KINDS:
        return _condition(name, knowledge)
    start, slash, level = name.partition("/")
    if slash and start in knowledge.starts and level in knowledge.sophistications:
        first, second = knowledge.starts[start], knowledge.sophistications[level]
        return f"{_entry(first, knowledge)}\n{_entry(second, knowledge)}"
    return None


def known_ids(knowledge: Knowledge) -> list[str]:
    """Every id that `explain` knows by itself."""
    return sorted(name for entries in _tables(knowledge) for name in entries)


def _tables(knowledge: Knowledge) -> list[dict[str, Entry]]:
    return [
        {**knowledge.mechanisms},
        {**knowledge.families},
        {**knowledge.vectors},
        {**knowledge.templates},
        {**knowledge.scales},
        {**knowledge.starts},
        {**knowledge.sophistications},
        {**knowledge.formulas},
    ]


def _entry(entry: Entry, knowledge: Knowledge) -> str:
    file = knowledge.where.get(entry.id, "")
    lines = [f"{entry.id}: {entry.title}", f"  entry: knowledge/{file}"]
    why = getattr(entry, "why", "")
    if why:
        lines.append(f"  why: {why}")
    if isinstance(entry, Mechanism):
        lines += _mechanism(entry)
    elif isinstance(entry, Opening):
        lines += _opening(entry, knowledge)
    elif isinstance(entry, Formula):
        lines.append(f"  stands for: {render(entry.needs)}")
    elif isinstance(entry, Scale):
        lines += [
            f"  worth: data {entry.data:g}, user {entry.user:g}, admin {entry.admin:g} "
            f"({entry.admin_alone:g} of a zone that holds nothing beyond the service)",
            f"  weight = worth / {entry.discount:g} ** (exploits spent before)",
        ]
    elif isinstance(entry, Template):
        lines += _template(entry)
    elif isinstance(entry, Start):
        lines.append(f"  stands: {'inside, as the service' if entry.inside else entry.reach}")
    elif isinstance(entry, Sophistication):
        known = "and published exploits" if entry.known else "no published exploits"
        lines.append(f"  has: misconfigurations, {known}, {entry.zero_days} zero-days")
    lines += _references(entry)
    return "\n".join(lines)


def _mechanism(entry: Mechanism) -> list[str]:
    lines = [
        f"  group: {entry.group}; helps hold the {entry.boundary} boundary",
        f"  on when closed: {', '.join(entry.signs)}",
    ]
    extra = [name for name in entry.closes if name not in entry.signs]
    if extra:
        lines.append(f"  turning it on also closes: {', '.join(extra)}")
    lines += [f"  {platform}: {text}" for platform, text in entry.settings.items()]
    return lines


def _opening(entry: Opening, knowledge: Knowledge) -> list[str]:
    lines = [
        f"  from {entry.from_} to {entry.gives}, by {entry.means}",
        f"  needs: {render(entry.needs)}",
        *(f"  weighs: {_weight(entry, scale)}" for scale in knowledge.scales.values()),
    ]
    if isinstance(entry, VectorEntry) and entry.entry:
        lines.append(f"  applies once to every entry point of kind {entry.entry}")
    if isinstance(entry, Family) and not entry.escalates:
        lines.append("  helps other exploits; is no vector by itself")
    closers = [
        mechanism.id
        for mechanism in knowledge.mechanisms.values()
        if any(
            matches(pattern, name) for pattern in mechanism.closes for name in leaves(entry.needs)
        )
    ]
    if entry.close:
        lines.append(f"  close it: {entry.close}")
    if closers:
        lines.append(f"  mechanisms that bear on it: {', '.join(closers)}")
    return lines


def _weight(entry: Opening, scale: Scale) -> str:
    """What the vector weighs on a scale: the worth of what it gives, by the exploits before it."""
    level = entry.gives.rpartition(":")[2]
    worths = {"data": scale.data, "user": scale.user, "admin": scale.admin}
    if level not in worths:
        return (
            f"{scale.user:g} where who handles the bytes is a user, {scale.admin:g} where an "
            f"admin or ring 0 ({scale.id})"
        )
    alone = level == "admin" and scale.admin_alone != scale.admin
    less = f" ({scale.admin_alone:g} where the zone holds nothing beyond the service)"
    return (
        f"{worths[level]:g}{less if alone else ''} / {scale.discount:g} ** exploits spent before "
        f"({scale.id}): {worths[level] / scale.discount:g} after one"
    )


def _template(entry: Template) -> list[str]:
    zones = ", ".join(zone.name for zone in entry.zones)
    lines = [
        f"  speaks of: {entry.version}",
        f"  zones: {zones}; application in ring {entry.ring}; service as {entry.service.user}",
    ]
    return lines + [f"  note: {note}" for note in entry.notes]


def _references(entry: Entry) -> list[str]:
    lines = []
    for field, label in (("attack", "ATT&CK"), ("cwe", "weakness"), ("cve", "published examples")):
        found = getattr(entry, field, ())
        if found:
            lines.append(f"  {label}: {', '.join(found)}")
    return [*lines, *(f"  source: {source}" for source in entry.sources)]


def _entry_vector(name: str, outcome: str, knowledge: Knowledge) -> str:
    """`tcp:0.0.0.0:80.execution`: the entry vector of that kind.

    In a hand-written deployment an entry point's id is the author's own (`http.leak`): then its
    `kind` decides, and the entries of every kind are shown.
    """
    kind = name.partition(":")[0]
    found = [
        entry
        for entry in knowledge.vectors.values()
        if entry.kind == "entry" and entry.outcome == outcome
    ]
    fitting = [entry for entry in found if entry.entry == kind]
    heading = f"{name}: {outcome} through the entry point {name.removesuffix(f'.{outcome}')}"
    if not fitting:
        heading += "; which of these entries it is says the kind of the entry point"
    return "\n".join([heading, *(_entry(entry, knowledge) for entry in fitting or found)])


def _condition(name: str, knowledge: Knowledge) -> str:
    kind, _, subject = name.partition(":")
    lines = [f"{name}: a condition, {CONDITION_KINDS[kind]}"]
    users = [
        opening.id
        for opening in (*knowledge.families.values(), *knowledge.vectors.values())
        if name in leaves(opening.needs)
    ]
    closers = [
        item.id
        for item in knowledge.mechanisms.values()
        if any(matches(pattern, name) for pattern in item.closes)
    ]
    if users:
        lines.append(f"  needed by: {', '.join(users)}")
    if closers:
        lines.append(f"  closed by: {', '.join(closers)}")
    details: dict[str, dict[str, Entry]] = {
        "path": {**knowledge.paths},
        "feature": {**knowledge.features},
        "device": {**knowledge.devices},
        "mount": {**knowledge.mounts},
    }
    entry = details.get(kind, {}).get(subject)
    if entry is not None:
        lines.append(_entry(entry, knowledge))
    return "\n".join(lines)
