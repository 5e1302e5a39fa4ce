"""The result: one measurement, or a comparison of several. These names are a public interface.

`ringfence schema` prints the JSON Schema that is generated from these records.
"""

from __future__ import annotations

import msgspec

from ringfence.model.deployment import Boundary, Count, EntryPoint, Means
from ringfence.model.evidence import Evidence, Unseen
from ringfence.model.facts import Target
from ringfence.model.position import Position

SCHEMA = "ringfence.measurement/1"
COMPARISON_SCHEMA = "ringfence.comparison/1"


class References(msgspec.Struct, frozen=True):
    """Where a reader can go on: ATT&CK techniques, CWE ids, CVE examples, sources."""

    attack: tuple[str, ...] = ()
    cwe: tuple[str, ...] = ()
    cve: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


class VectorNeeds(msgspec.Struct, frozen=True):
    """Where the attacker must stand, and the conditions that must be open."""

    position: Position
    conditions: tuple[str, ...]


class Vector(msgspec.Struct, frozen=True):
    """An open vector. `weight` is in the measurement's scale, for its start.

    `exploit` is the identity of the vulnerability that is spent (vectors that share one are
    opened by one bug); `blocked_by` are the mechanisms that would remove it; `steps` is the least
    number of exploits spent before it can be used, None where this start never gets there. What
    only helps other exploits gives the position that it starts from, and weighs nothing.
    """

    id: str
    title: str
    needs: VectorNeeds
    gives: Position
    means: Means
    exploit: str
    weight: float
    steps: int | None
    reachable_by: tuple[str, ...]
    blocked_by: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    references: References


class ClosedVector(msgspec.Struct, frozen=True):
    """A vector that is closed here, the mechanisms that hold it shut, and how that is known."""

    id: str
    title: str
    held_by: tuple[str, ...]
    evidence: tuple[Evidence, ...]


class Surface(msgspec.Struct, frozen=True):
    """The sum of weights: from `start` at any cost, for each attacker, and by zone."""

    total: float
    by_attacker: dict[str, float]
    by_zone: dict[str, float]


class ZeroDays(msgspec.Struct, frozen=True):
    """Least number of unpublished vulnerabilities that give admin; None where no way is known."""

    system: int | None
    machine: int | None


class EvidenceCoverage(msgspec.Struct, frozen=True):
    """Shares (0 to 1) of the surface whose facts are at least observed, and probed."""

    observed: float
    probed: float


class DeploymentSummary(msgspec.Struct, frozen=True):
    """The part of a deployment that a reader of the result needs.

    `lower_bound`: the knowledge base has few of this system's interfaces, so that its surface
    can only be larger.
    """

    name: str
    zones: tuple[str, ...]
    kernel_zone: str
    ring: int
    boundaries: tuple[Boundary, ...]
    notes: tuple[str, ...]
    lower_bound: bool = False


class PlanStep(msgspec.Struct, frozen=True):
    """One mechanism to turn on: `setting` maps a platform to the exact lines, to be pasted.

    `removes` are vector ids that go with this step, after those above it; `zero_days_after` is
    the zero-days to admin once this step is taken.
    """

    mechanism: str
    title: str
    setting: dict[str, str]
    removes: tuple[str, ...]
    surface_after: float
    zero_days_after: ZeroDays


class Measurement(msgspec.Struct, frozen=True):
    """One measurement of one target (docs/measure.md, *Names in the JSON*)."""

    schema: str
    target: Target
    deployment: DeploymentSummary
    entry_points: tuple[EntryPoint, ...]
    vectors: tuple[Vector, ...]
    closed: tuple[ClosedVector, ...]
    scale: str
    start: str
    surface: Surface
    profile: tuple[Position, ...]
    zero_days_to_admin: ZeroDays
    blast_radius: tuple[tuple[str, ...], ...]
    evidence_coverage: EvidenceCoverage
    counts: dict[str, Count]
    unseen: tuple[Unseen, ...]
    plan: tuple[PlanStep, ...]
    plan_optimal: bool | None = None


class Swap(msgspec.Struct, frozen=True):
    """Two deployments whose order changes, and the share of draws in which it does."""

    first: str
    second: str
    share: float


class Sensitivity(msgspec.Struct, frozen=True):
    """How far the order depends on the scale.

    `orders` gives the order under every scale of the knowledge base; `holds` the share of
    `draws` random scales under which the order stays as it is; `swaps` the pairs that change
    places; `reasons` say, for each scale whose order differs, why.
    """

    orders: dict[str, tuple[str, ...]]
    draws: int
    seed: int
    holds: float
    swaps: tuple[Swap, ...]
    reasons: tuple[str, ...]


class Difference(msgspec.Struct, frozen=True):
    """A vector that some of the compared deployments have and others have not, by their names.

    `weights` where it is open; `closed_by` the fact that closes it elsewhere. A deployment in
    neither has no such vector at all.
    """

    vector: str
    title: str
    weights: dict[str, float]
    closed_by: dict[str, Evidence]


class Comparison(msgspec.Struct, frozen=True):
    """Several deployments side by side, least surface first in `order` (names)."""

    schema: str
    measurements: tuple[Measurement, ...]
    order: tuple[str, ...]
    differences: tuple[Difference, ...]
    sensitivity: Sensitivity
