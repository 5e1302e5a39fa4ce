"""A deployment: a workload inside an ordered stack of boundaries, innermost first.

This is the one record that the measure works on. A measured target, a template of the knowledge
base and a TOML file written by hand all become one of these.
"""

from __future__ import annotations

import enum

import msgspec

from ringfence.model.evidence import Evidence, Unseen
from ringfence.model.need import State
from ringfence.model.position import Level


class BoundaryKind(enum.StrEnum):
    """The lines an attacker must cross (docs/measure.md, *Words*)."""

    PROCESS = "process"
    CONTAINER = "container"
    KERNEL = "kernel"
    MACHINE = "machine"
    NETWORK = "network"


class Switch(enum.StrEnum):
    """State of a mechanism."""

    ON = "on"
    OFF = "off"
    PARTIAL = "partial"
    UNKNOWN = "unknown"


class Means(enum.StrEnum):
    """What an attacker must have to use a vector, cheapest first."""

    MISCONFIGURATION = "misconfiguration"
    KNOWN = "known"
    ZERO_DAY = "zero-day"

    @property
    def rank(self) -> int:
        """0 for `misconfiguration` to 2 for `zero-day`."""
        return list(Means).index(self)


class Reach(enum.StrEnum):
    """The farthest start from which an entry point can be reached, farthest first.

    Whoever stands nearer reaches it too: `internet` means everybody. `inside` means that only
    the workload itself can (a loopback socket in a network namespace of its own, a Unix socket
    whose file lets nobody else connect).
    """

    INTERNET = "internet"
    ADJACENT = "adjacent"
    NEIGHBOUR = "neighbour"
    LOCAL = "local"
    INSIDE = "inside"

    @property
    def rank(self) -> int:
        """0 for `internet`, growing as the attacker must come nearer."""
        return list(Reach).index(self)


class AssetKind(enum.StrEnum):
    """What a zone holds. The last three lie beyond the service itself (scale `assets`)."""

    SERVICE_DATA = "service-data"
    GUEST = "guest"
    OTHER_SERVICES = "other-services"
    OTHER_TENANTS = "other-tenants"
    HOST = "host"

    @property
    def beyond_service(self) -> bool:
        """Whether holding this is worth more than holding the service."""
        return self not in (AssetKind.SERVICE_DATA, AssetKind.GUEST)


class Asset(msgspec.Struct, frozen=True):
    """Something worth holding: what it is, and the level in its zone from which it is held."""

    kind: AssetKind
    title: str
    level: Level = Level.ADMIN


class Zone(msgspec.Struct, frozen=True):
    """A place with one administrator: a container, a system with its kernel, a machine."""

    name: str
    assets: tuple[Asset, ...] = ()


class Condition(msgspec.Struct, frozen=True):
    """One permission in the attacker's favour: whether it is open, and how that is known.

    `stated` is False where a template or a file says nothing of it and its default was taken:
    enough to decide a vector, too little to call a mechanism on.
    """

    state: State
    evidence: tuple[Evidence, ...] = ()
    stated: bool = True


class MechanismState(msgspec.Struct, frozen=True):
    """A mechanism of the knowledge base as it is in this deployment."""

    id: str
    state: Switch
    evidence: tuple[Evidence, ...] = ()


class Boundary(msgspec.Struct, frozen=True):
    """A boundary, the zone on its inner side, and the mechanisms that hold it."""

    kind: BoundaryKind
    zone: str
    mechanisms: tuple[MechanismState, ...] = ()


class Handler(msgspec.Struct, frozen=True):
    """Who handles the bytes that come in, which decides where the attacker lands.

    `level` is the level that running code as this handler gives in the workload's zone;
    `pid` is None for a target that does not run.
    """

    level: Level
    evidence: Evidence
    program: str = ""
    pid: int | None = None
    user: str = ""


class EntryPoint(msgspec.Struct, frozen=True):
    """Where data from outside comes in.

    `kind` is a kind of the knowledge base's entry vectors (`tcp`, `udp`, `unix`, `file`,
    `device` ...); `address` and `port` as they are bound. `supposed` says that it may not be the
    workload's at all: it adds vectors, and decides no start.
    """

    id: str
    kind: str
    reach: Reach
    handler: Handler
    evidence: tuple[Evidence, ...]
    address: str = ""
    port: int | None = None
    supposed: bool = False
    leak: Means | None = Means.ZERO_DAY
    execution: Means | None = Means.ZERO_DAY


class KnownVulnerability(msgspec.Struct, frozen=True):
    """A published vulnerability in a vector's interface: its means becomes `known`."""

    vector: str
    cve: str
    evidence: Evidence


ENTRY_POINTS = "entry_points"
"""The count of entry points. A deployment has it only where it may have more than were seen; else
a measurement counts those that there are."""


class Count(msgspec.Struct, frozen=True):
    """A one-dimensional count that people argue with, and how it is known. `value` is None where it
    could not be seen; `at_least`: only part was, so that it can only be more."""

    value: int | None
    evidence: Evidence
    at_least: bool = False


class Deployment(msgspec.Struct, frozen=True):
    """A workload and all that encloses it.

    `zones` are ordered innermost first; the workload is in the first, `kernel_zone` is the one
    whose kernel serves its system calls, the last is the machine underneath. `ring` is the
    processor ring in which the application runs. `conditions` hold for code that runs as the
    service; `admin_conditions` override them for code that has become admin of the workload's
    zone. A condition that is in neither has the state `default`. `lower_bound` says that the
    knowledge base has few of this system's interfaces, so that a surface can only be larger.
    """

    name: str
    zones: tuple[Zone, ...]
    kernel_zone: str
    ring: int
    boundaries: tuple[Boundary, ...]
    entry_points: tuple[EntryPoint, ...]
    conditions: dict[str, Condition]
    admin_conditions: dict[str, Condition]
    default: Condition
    counts: dict[str, Count] = {}
    known: tuple[KnownVulnerability, ...] = ()
    notes: tuple[str, ...] = ()
    lower_bound: bool = False
    unseen: tuple[Unseen, ...] = ()

    @property
    def workload_zone(self) -> str:
        """The innermost zone: where the service runs."""
        return self.zones[0].name

    @property
    def machine_zone(self) -> str:
        """The outermost zone: the machine underneath (the system itself on a plain server)."""
        return self.zones[-1].name

    def condition(self, condition_id: str, level: Level) -> Condition:
        """The state of a condition for code at `level` in the workload's zone."""
        if level is Level.ADMIN and condition_id in self.admin_conditions:
            return self.admin_conditions[condition_id]
        return self.conditions.get(condition_id, self.default)
