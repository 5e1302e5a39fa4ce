"""What an entry of the knowledge base is. Fields are those of the TOML files, one to one."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import msgspec

from ringfence.model.deployment import AssetKind, BoundaryKind, Means
from ringfence.model.need import Need, leaves, matches
from ringfence.model.position import Level


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """What every entry has: an id unique in the whole base, a title, and its sources."""

    id: str
    title: str
    sources: tuple[str, ...]


class Mechanism(Entry, frozen=True, kw_only=True):
    """Something that removes a vector, or makes its means dearer.

    It is on when all of its `signs` are closed. Turning it on closes `closes` (a superset).
    `settings` maps a platform to the exact lines, to be pasted as they are: options of `run`
    (podman, docker), a unit's [Service] (systemd), YAML (kubernetes), shell commands (host).
    What no line can say stands in a comment, of the kinds that docs/knowledge.md lists.
    `effort` (1 a flag, 2 a configuration, 3 a redesign) breaks ties in the plan; one that a
    person cannot simply turn on has `plan` false. `holds_admin` false: it binds the service's own
    code, and means nothing to an attacker who has become admin of the zone. `gradual`: it can be
    there and still let through some of what it could close, like a wide filter: `partial` then.
    """

    group: str
    boundary: BoundaryKind
    signs: tuple[str, ...]
    closes: tuple[str, ...]
    why: str
    effort: int = 2
    plan: bool = True
    holds_admin: bool = True
    gradual: bool = False
    settings: dict[str, str] = {}
    attack: tuple[str, ...] = ()
    cwe: tuple[str, ...] = ()
    cve: tuple[str, ...] = ()


class Opening(Entry, frozen=True, kw_only=True):
    """What a family and a vector share: a way from one relative position to another.

    `from_` and `gives` are `role:level`, with the roles `workload`, `kernel` and `machine`.
    `only = "container"` restricts it to deployments whose workload zone is not the kernel's.
    """

    from_: str = msgspec.field(name="from")
    gives: str
    means: Means
    needs: Need
    why: str
    close: str = ""
    exploit: str = ""
    only: str = ""
    attack: tuple[str, ...] = ()
    cwe: tuple[str, ...] = ()
    cve: tuple[str, ...] = ()

    @property
    def vulnerability(self) -> str:
        """The identity of the vulnerability that it spends: several openings may share one."""
        return self.exploit or self.id


class Family(Opening, frozen=True, kw_only=True):
    """A risky kernel interface family. `escalates` false: it helps other exploits and leads nowhere
    by itself, so its vector gives what it starts from and weighs nothing."""

    escalates: bool = True


class VectorEntry(Opening, frozen=True, kw_only=True):
    """A vector that is not a kernel interface family.

    Entry vectors name the kind of entry point (`entry`) and their `outcome` (`leak` or
    `execution`); they apply once to each entry point of that kind.
    """

    kind: str
    entry: str = ""
    outcome: str = ""


class Formula(Entry, frozen=True, kw_only=True):
    """A named need, used in other needs by its bare id."""

    needs: Need


class Feature(Entry, frozen=True, kw_only=True):
    """How the running kernel shows that it has a feature (any sign is enough)."""

    config: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    filesystems: tuple[str, ...] = ()


class PathEntry(Entry, frozen=True, kw_only=True):
    """A path worth looking at in a workload's view; `access` is what the attacker wants."""

    globs: tuple[str, ...]
    kind: str
    access: str


class HostMount(Entry, frozen=True, kw_only=True):
    """Host paths that matter when they, or a folder that holds them, are mounted into a container.

    `inside` are patterns of what matters below them when it alone is mounted, `harmless` of what
    does not: a `*` stands for (a part of) one name, a last `/**` for all below as well.
    """

    paths: tuple[str, ...]
    inside: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()


class Device(Entry, frozen=True, kw_only=True):
    """A device kind that a guest sees, and how to recognise it."""

    virtio: tuple[int, ...] = ()
    pci: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    qemu: tuple[str, ...] = ()


class Scale(Entry, frozen=True, kw_only=True):
    """What each level is worth, and the discount for each exploit spent before.

    `admin_alone` is the worth of admin of a zone that holds nothing beyond the service.
    """

    data: float
    user: float
    admin: float
    admin_alone: float
    discount: float
    why: str = ""


class Start(Entry, frozen=True, kw_only=True):
    """Where an attacker starts: outside with a reach, or `inside`, running code as the service."""

    why: str
    reach: str = ""
    inside: bool = False


class Sophistication(Entry, frozen=True, kw_only=True):
    """What an attacker has: published exploits or not, and how many zero-days."""

    known: bool
    zero_days: int
    why: str


class TemplateAsset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An asset of a template's zone."""

    kind: AssetKind
    title: str
    level: Level = Level.ADMIN


class TemplateZone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A zone of a template."""

    name: str
    assets: tuple[TemplateAsset, ...] = ()


class TemplateBoundary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A boundary of a template."""

    kind: BoundaryKind
    zone: str


class TemplateService(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a template runs the service.

    `user`: `as-service` (as observed), `unprivileged`, `root`, or `kernel` (ring 0).
    `separation`: whether it can carry the service's own separation between processes.
    `files_alone`: whether it holds the service's own files and nothing else.
    """

    user: str
    separation: bool
    files_alone: bool = False


class TemplateConditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """States by condition id or pattern; an exact id beats a pattern, a longer one a shorter."""

    open: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    default: str = "unknown"
    keep: tuple[str, ...] = ()


class TemplateCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published figure with its source."""

    value: int
    source: str


class Template(Entry, frozen=True, kw_only=True):
    """A deployment that a service can be placed into. All its facts are of grade `assumed`.

    `kernel`: which one is under the service here: `measured`, the one that it was measured on;
    `alike`, one of its own that is by definition the same, which nobody has looked at; or `other`.
    `lower_bound`: the base has few of this system's interfaces, so its surface can only be larger.
    """

    version: str
    kernel_zone: str
    ring: int
    zones: tuple[TemplateZone, ...]
    boundaries: tuple[TemplateBoundary, ...]
    service: TemplateService
    conditions: TemplateConditions
    admin: TemplateConditions = TemplateConditions()
    notes: tuple[str, ...] = ()
    kernel: Literal["measured", "alike", "other"] = "other"
    lower_bound: bool = False
    counts: dict[str, TemplateCount] = {}


class Knowledge(msgspec.Struct, frozen=True, dict=True):
    """The whole base, each kind by id, in the order of its files. `where` maps an id to a file."""

    mechanisms: dict[str, Mechanism]
    families: dict[str, Family]
    vectors: dict[str, VectorEntry]
    formulas: dict[str, Formula]
    features: dict[str, Feature]
    paths: dict[str, PathEntry]
    mounts: dict[str, HostMount]
    devices: dict[str, Device]
    scales: dict[str, Scale]
    starts: dict[str, Start]
    sophistications: dict[str, Sophistication]
    templates: dict[str, Template]
    where: dict[str, str]

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """Every condition that an entry decides by, patterns left out, once, in order."""
        named: dict[str, None] = {}
        for opening in (*self.families.values(), *self.vectors.values()):
            named.update(dict.fromkeys(leaves(opening.needs)))
        for mechanism in self.mechanisms.values():
            named.update(dict.fromkeys((*mechanism.signs, *mechanism.closes)))
        return tuple(name for name in named if not name.endswith("*"))

    @cached_property
    def closed_by(self) -> dict[str, frozenset[str]]:
        """For each mechanism, the conditions that turning it on closes, patterns spelled out."""
        return {
            mechanism.id: frozenset(
                name
                for name in self.conditions
                if any(matches(pattern, name) for pattern in mechanism.closes)
            )
            for mechanism in self.mechanisms.values()
        }

    @cached_property
    def openings(self) -> tuple[Opening, ...]:
        """Every family and every vector but those of entry, in order."""
        vectors = [vector for vector in self.vectors.values() if vector.kind != "entry"]
        return (*self.families.values(), *vectors)
