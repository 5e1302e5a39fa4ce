"""How numbers, positions and settings read in every report."""

from __future__ import annotations

from ringfence.model.deployment import ENTRY_POINTS, Count
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.measurement import Difference, Measurement, PlanStep, Vector, ZeroDays
from ringfence.model.position import OUTSIDE, Position

COUNTS = (
    ("bytes", "bytes"),
    ("files", "files"),
    ("executables", "executables"),
    ("system_calls", "system calls open"),
    ("interfaces_to_machine", "interfaces to the machine"),
)
"""The one-dimensional counts that people argue with, and their headings."""

PLATFORMS = ("podman", "docker", "systemd", "kubernetes", "host")
"""Where a setting is made, in the order in which a plan lists them."""

LOWER_BOUND = (
    "≥ before a surface: the knowledge base has few of that system's interfaces; it can only be "
    "more."
)
AT_LEAST = (
    "≥ before a count: only part was seen (of a service's own files the code that it runs alone), "
    "so it can only be more. A dash: not known, or none to count (system calls of an application "
    "in the kernel's ring). Files of a deployment that keeps the measured system's tree are that "
    "system's."
)

ON_A_HOST = ("systemd", "host", "podman", "docker", "kubernetes")
"""The order for what runs on a host without a container: its own unit comes first."""

UNINFORMATIVE = "forbids nothing"
"""How evidence ends that only says that nothing stands in the way."""


def number(value: float) -> str:
    """A surface: whole where it is whole, else with up to two digits."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}".rstrip("0")


def position(place: Position) -> str:
    """A position: `machine:admin`, or `nothing` for who is still outside."""
    return "nothing" if place == OUTSIDE else str(place)


def days(value: int | None) -> str:
    """Zero-days to admin; a dash where no way is known."""
    return "-" if value is None else str(value)


def zero_days(value: ZeroDays) -> str:
    """Both numbers of zero-days to admin."""
    return f"system {days(value.system)}, machine {days(value.machine)}"


def depth_removed(before: ZeroDays, after: ZeroDays) -> str:
    """Zero-days to admin that a step of a plan changes, from and to; nothing where it does not."""
    pairs = (("system", before.system, after.system), ("machine", before.machine, after.machine))
    return ", ".join(f"{zone} {days(old)} to {days(new)}" for zone, old, new in pairs if old != new)


def count(key: str, counts: dict[str, Count]) -> str:
    """The count `key`, bytes in megabytes, marked where it is a lower bound; a dash where it is not
    known."""
    found = counts.get(key)
    if found is None or found.value is None:
        return "-"
    mark = "≥ " if found.at_least else ""
    return mark + (f"{found.value / 1e6:,.1f} MB" if key == "bytes" else f"{found.value:,}")


def percent(share: float) -> str:
    """A share as whole percent."""
    return f"{share * 100:.0f}%"


def telling(vector: Vector) -> Evidence | None:
    """The one piece of evidence to show where there is room for one: the weakest, since a
    conclusion is as good as that; of several, the last, since needs go from the general to the
    particular."""
    grade = min((item.grade for item in vector.evidence), key=lambda g: g.rank, default=None)
    weakest = [item for item in vector.evidence if item.grade == grade]
    informative = [item for item in weakest if not item.detail.endswith(UNINFORMATIVE)]
    return next(reversed(informative or weakest), None)


def surface(result: Measurement) -> str:
    """The surface, marked where it is a lower bound."""
    mark = "≥ " if result.deployment.lower_bound else ""
    return f"{mark}{number(result.surface.total)}"


def weight(value: float | None) -> str:
    """A vector's weight in a deployment; a dash where it is not open."""
    return "-" if value is None else number(value)


def closing(item: Difference) -> str:
    """The fact that closes a vector, in the first deployment where one does."""
    for name, evidence in item.closed_by.items():
        return printable(f"{name}: {evidence.grade}: {evidence.detail or evidence.source}")
    return "no such way elsewhere"


def printable(text: str) -> str:
    """Text from outside without control characters."""
    return "".join(char if char.isprintable() else "?" for char in text)


def setting(step: PlanStep, kind: str) -> str:
    """Where a step is set on the platform that fits a target of this kind best: its setting if
    that is one line, else the first of its lines; the plan below has them all."""
    for platform in ON_A_HOST if kind in ("process", "host") else PLATFORMS:
        if platform in step.setting:
            lines = step.setting[platform].splitlines()
            first = next((line for line in lines if not line.startswith("#")), lines[0])
            return f"{platform}: {first}" + (" ..." if len(lines) > 1 else "")
    return ""


def reached(result: Measurement) -> list[Vector]:
    """The vectors that the measurement's start gets to. Others weigh nothing from there."""
    return [vector for vector in result.vectors if vector.steps is not None]


def headline(result: Measurement) -> str:
    """The measurement in one line."""
    line = (
        f"surface {surface(result)} from {result.start}, {len(reached(result))} vectors, "
        f"zero-days to admin: {zero_days(result.zero_days_to_admin)}"
    )
    return f"{line}; seen in part" if in_part(result) else line


def in_part(result: Measurement) -> str:
    """What keeps the headline from being the whole truth, where entry points may be missing."""
    points = result.counts.get(ENTRY_POINTS)
    if points is None or not points.at_least:
        return ""
    used = reached(result)
    assumed = sum(
        1 for vector in used if any(item.grade is Grade.ASSUMED for item in vector.evidence)
    )
    return (
        f"seen in part: {points.evidence.detail or 'not all sockets were seen'}, so entry points "
        f"may be missing; {assumed} of {len(used)} vectors rest on what was not seen and count as "
        "open. As root more is seen."
    )
