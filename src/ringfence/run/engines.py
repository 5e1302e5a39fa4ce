"""Which engine to start a workload with: one file an engine that is not started as runc is."""

from __future__ import annotations

import shutil

from ringfence.errors import MissingError, UsageError
from ringfence.run.engine import ENGINES, Container
from ringfence.run.podman import PodmanContainer

CONTAINERS: dict[str, type[Container]] = {
    **dict.fromkeys(ENGINES, Container),
    "podman": PodmanContainer,
}
"""By name, in the order in which they are tried."""


def candidates(wanted: str = "") -> tuple[str, ...]:
    """The engines that are installed, or `wanted` alone. Raises UsageError or MissingError."""
    if wanted and wanted not in CONTAINERS:
        raise UsageError(f"{wanted} is no engine", remedy=f"use {', '.join(CONTAINERS)}")
    found = tuple(name for name in ((wanted,) if wanted else CONTAINERS) if shutil.which(name))
    if not found:
        raise MissingError(
            f"{wanted or ', '.join(CONTAINERS)}: not installed",
            remedy=f"apt-get install {wanted or 'runc'}",
        )
    return found
