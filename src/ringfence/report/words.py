"""How numbers, positions and settings read in every report."""

from __future__ import annotations

from ringfence.model.deployment import Count
from ringfence.model.measurement import Measurement, PlanStep, ZeroDays
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


def count(found: Count | None) -> str:
    """A count; a dash where it is not known."""
    return "-" if found is None or found.value is None else f"{found.value:,}"


def percent(share: float) -> str:
    """A share as whole percent."""
    return f"{share * 100:.0f}%"


def setting(step: PlanStep) -> str:
    """The exact setting of a step, for the first platform that has one."""
    for platform in PLATFORMS:
        if platform in step.setting:
            return f"{platform}: {step.setting[platform]}"
    return ""


def headline(result: Measurement) -> str:
    """The measurement in one line."""
    reachable = sum(1 for vector in result.vectors if vector.steps is not None)
    return (
        f"surface {number(result.surface.total)} from {result.start}, {reachable} vectors, "
        f"zero-days to admin: {zero_days(result.zero_days_to_admin)}"
    )
