"""What an id means: the entry of the knowledge base behind it, in words."""

from __future__ import annotations

from ringfence.collect.process.credentials import CAPABILITIES
from ringfence.collect.seccomp.tables import AUDIT_ARCH, calls_of
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
from ringfence.knowledge.vocabulary import check_condition
from ringfence.model.need import leaves, matches, render
from ringfence.report.watch_sarif import RULES
from ringfence.report.words import printable

OUTCOMES = ("leak", "execution")
RULE = "watch/"
"""Before what differs: the id of a rule in SARIF."""
PROBED = "probe:"
"""Before the id of an opening: the condition that probing settles of it as a whole."""

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
    if _is_condition(name, knowledge):
        return _condition(name, knowledge)
    return _rule(name) or _probed(name, knowledge) or _way_in(name, knowledge)


def _way_in(name: str, knowledge: Knowledge) -> str | None:
    """An entry point, a vector or an exploit of one, or where an attacker starts with what."""
    point, _, outcome = name.rpartition(".")
    if point and outcome in OUTCOMES:
        return _entry_vector(point, outcome, knowledge)
    program, _, outcome = name.rpartition(":")
    if program and outcome in OUTCOMES:
        return _exploit(program, outcome)
    kind, _, place = name.partition(":")
    # A device that has no condition of its own is a slip of the pen rather than an entry point.
    kinds = {entry.entry for entry in knowledge.vectors.values()} - {"", "device"}
    if place and kind in kinds:
        return "\n".join(_entry_vector(name, word, knowledge) for word in OUTCOMES)
    start, slash, level = name.partition("/")
    if slash and start in knowledge.starts and level in knowledge.sophistications:
        first, second = knowledge.starts[start], knowledge.sophistications[level]
        return f"{_entry(first, knowledge)}\n{_entry(second, knowledge)}"
    return None


def known_ids(knowledge: Knowledge) -> list[str]:
    """Every id that `explain` knows by itself."""
    rules = [f"{RULE}{word}" for word in RULES]
    return sorted([*rules, *(name for entries in _tables(knowledge) for name in entries)])


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
    for platform, text in entry.settings.items():
        first, *more = text.splitlines()
        lines += (
            [f"  {platform}:", *(f"    {line}" for line in (first, *more))]
            if more
            else [f"  {platform}: {first}"]
        )
    return lines


def _opening(entry: Opening, knowledge: Knowledge) -> list[str]:
    lines = [
        f"  from {entry.from_} to {entry.gives}, by {entry.means}",
        f"  needs: {render(entry.needs)}",
    ]
    if isinstance(entry, Family) and not entry.escalates:
        lines[0] = f"  from {entry.from_}: helps other exploits, leads nowhere by itself"
        lines.append("  weighs: 0")
    else:
        lines += [f"  weighs: {_weight(entry, scale)}" for scale in knowledge.scales.values()]
    if isinstance(entry, VectorEntry) and entry.entry:
        lines.append(f"  applies once to every entry point of kind {entry.entry}")
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


def _entry_vector(point: str, outcome: str, knowledge: Knowledge) -> str:
    """`tcp:0.0.0.0:80` and `execution`: the entry vector of that kind.

    In a hand-written deployment an entry point's id is the author's own (`http.leak`): then its
    `kind` decides, and the entries of every kind are shown.
    """
    kind = point.partition(":")[0]
    found = [
        entry
        for entry in knowledge.vectors.values()
        if entry.kind == "entry" and entry.outcome == outcome
    ]
    fitting = [entry for entry in found if entry.entry == kind]
    shown = printable(point)
    heading = f"{shown}.{outcome}: {outcome} through the entry point {shown}"
    if not fitting:
        heading += "; which of these entries it is says the kind of the entry point"
    return "\n".join([heading, *(_entry(entry, knowledge) for entry in fitting or found)])


def _exploit(program: str, outcome: str) -> str:
    """The exploit that a vector of entry spends: one for all entry points of a program."""
    shown = printable(program)
    return (
        f"{shown}:{outcome}: an exploit for {outcome} in {shown}\n"
        f"  spent by the vectors of entry that end in .{outcome} and that {shown} handles: whoever "
        "has it uses it at each of them, and it counts once"
    )


def _rule(name: str) -> str | None:
    """A rule of watch check in SARIF."""
    text = RULES.get(name.removeprefix(RULE)) if name.startswith(RULE) else None
    return text and f"{name}: {text}\n  a rule of watch check: docs/watch.md"


def _probed(name: str, knowledge: Knowledge) -> str | None:
    """`probe:ID`: an opening as a whole, where it was probed."""
    opening = name.removeprefix(PROBED)
    found = knowledge.families.get(opening) or knowledge.vectors.get(opening)
    if found is None or opening == name:
        return None
    heading = f"{name}: a condition, whether probing found {opening} open as a whole"
    return f"{heading}\n{_entry(found, knowledge)}"


def _is_condition(name: str, knowledge: Knowledge) -> bool:
    """Whether an entry decides by it, or something that is there could be asked for by it."""
    kind, colon, subject = name.partition(":")
    if name in knowledge.conditions:
        return True
    if not colon or subject.endswith("*") or check_condition(name, knowledge):
        return False
    if kind == "syscall":
        return any(subject in calls_of(architecture) for architecture in AUDIT_ARCH)
    if kind in ("cap", "nscap"):
        return subject.removeprefix("CAP_") in CAPABILITIES
    return kind != "sysctl"


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
