"""Surface, depth, blast radius and evidence coverage of a deployment's open vectors."""

from __future__ import annotations

from functools import cached_property

import msgspec

from ringfence.knowledge.records import Knowledge, Scale, Sophistication, Start
from ringfence.measure.graph import Edge, Prices
from ringfence.measure.openings import OpenVector
from ringfence.measure.scale import holds_beyond, weight
from ringfence.model.deployment import Deployment, Means, Reach
from ringfence.model.evidence import Grade, weakest
from ringfence.model.measurement import EvidenceCoverage, Surface, ZeroDays
from ringfence.model.position import OUTSIDE, Level, Position

ZERO_DAYS_SHOWN = 4
"""The profile is given for z = 0, 1, 2, 3 zero-days."""


def is_exploit(means: Means) -> bool:
    """Whether using such a vector spends an exploit, known or not."""
    return means is not Means.MISCONFIGURATION


def is_zero_day(means: Means) -> bool:
    """Whether using such a vector spends an unpublished vulnerability."""
    return means is Means.ZERO_DAY


def start_positions(
    start: Start, deployment: Deployment, vectors: tuple[OpenVector, ...]
) -> set[Position]:
    """Where an attacker with this start stands before the first vector."""
    if not start.inside:
        return {OUTSIDE}
    landings = {
        vector.edge.gives
        for vector in vectors
        if vector.reach is not None and vector.edge.gives.level is not Level.DATA
    }
    return landings or {Position(deployment.workload_zone, Level.USER)}


def usable_from(start: Start, vectors: tuple[OpenVector, ...]) -> tuple[OpenVector, ...]:
    """The vectors that exist for this start: an entry point must be within its reach."""
    if start.inside:
        return tuple(vector for vector in vectors if vector.reach is None)
    rank = Reach(start.reach).rank
    return tuple(v for v in vectors if v.reach is None or v.reach.rank <= rank)


class View:
    """One deployment's open vectors, seen from one start."""

    def __init__(
        self, deployment: Deployment, vectors: tuple[OpenVector, ...], start: Start
    ) -> None:
        self.deployment = deployment
        self.start = start
        self.vectors = usable_from(start, vectors)
        self.positions = start_positions(start, deployment, vectors)
        self.zones = tuple(zone.name for zone in deployment.zones)

    @property
    def edges(self) -> list[Edge]:
        return [vector.edge for vector in self.vectors]

    @cached_property
    def by_exploits(self) -> Prices:
        """Prices in exploits of any kind: what the discount counts."""
        return Prices(self.edges, self.zones, self.positions, costs=is_exploit)

    @cached_property
    def by_zero_days(self) -> Prices:
        """Prices in zero-days, for whoever has every published exploit."""
        return Prices(self.edges, self.zones, self.positions, costs=is_zero_day)

    @cached_property
    def without_known(self) -> Prices:
        """Prices in zero-days for whoever has no published exploit."""
        return Prices(
            self.edges,
            self.zones,
            self.positions,
            costs=is_zero_day,
            usable=lambda means: means is not Means.KNOWN,
        )

    def steps(self, vector: OpenVector) -> int | None:
        """Least number of exploits spent before `vector` can be used; None out of reach."""
        if vector not in self._members:
            return None
        return self.by_exploits.price(vector.edge.source)

    @cached_property
    def _members(self) -> frozenset[OpenVector]:
        return frozenset(self.vectors)

    def weigh(self, vector: OpenVector, scale: Scale) -> float:
        """The vector's weight on `scale` for this start; 0 where it cannot be reached, or leads
        nowhere."""
        if not vector.edge.leads:
            return 0.0
        return weight(vector.edge.gives, self.steps(vector), self.deployment, scale)

    def usable_by(self, vector: OpenVector, means: Sophistication) -> bool:
        """Whether an attacker of this sophistication, from this start, can use `vector`."""
        if vector not in self._members:
            return False
        prices = self.by_zero_days if means.known else self.without_known
        price = prices.price_of_use(vector.edge)
        return price is not None and price <= means.zero_days

    def held(self, zero_days: int) -> frozenset[Position]:
        """Every position held once `zero_days` unpublished vulnerabilities are spent."""
        return frozenset(
            position
            for position in self.by_zero_days.reached()
            if (self.by_zero_days.price(position) or 0) <= zero_days
        )


def total(view: View, scale: Scale) -> float:
    """The surface from this start at any cost."""
    return tidy(sum(view.weigh(vector, scale) for vector in view.vectors))


def tidy(number: float) -> float:
    """Without the noise of binary fractions: ten significant digits after the point."""
    return round(number, 10)


def surface(views: dict[str, View], start: str, knowledge: Knowledge, scale: Scale) -> Surface:
    """Total and zones for `start`, and one number for each attacker `start/sophistication`."""
    view = views[start]
    by_zone = dict.fromkeys(view.zones, 0.0)
    for vector in view.vectors:
        zone = vector.edge.gives.zone
        by_zone[zone] = tidy(by_zone[zone] + view.weigh(vector, scale))
    by_attacker = {
        f"{name}/{level.id}": tidy(
            sum(
                candidate.weigh(vector, scale)
                for vector in candidate.vectors
                if candidate.usable_by(vector, level)
            )
        )
        for name, candidate in views.items()
        for level in knowledge.sophistications.values()
    }
    return Surface(total(view, scale), by_attacker, by_zone)


def depth(position: Position, zones: tuple[str, ...]) -> tuple[int, int]:
    """Sort key of depth: the level, then the zone counted outwards from the service."""
    if position.level is None:
        return (-1, -1)
    return (position.level.rank, zones.index(position.zone))


def profile(view: View) -> tuple[Position, ...]:
    """The deepest position reached for z = 0 .. 3 zero-days spent."""
    return tuple(
        max(view.held(spent) | {OUTSIDE}, key=lambda position: depth(position, view.zones))
        for spent in range(ZERO_DAYS_SHOWN)
    )


def zero_days(view: View) -> ZeroDays:
    """Zero-days to admin of the enclosing system, and of the machine underneath."""
    deployment = view.deployment
    return ZeroDays(
        system=view.by_zero_days.price(Position(deployment.kernel_zone, Level.ADMIN)),
        machine=view.by_zero_days.price(Position(deployment.machine_zone, Level.ADMIN)),
    )


def blast_radius(view: View) -> tuple[tuple[str, ...], ...]:
    """What is held for z = 0 .. 3: titles of assets, of every zone reached deep enough."""
    return tuple(
        tuple(
            asset.title
            for zone in view.deployment.zones
            for asset in zone.assets
            if any(
                place.zone == zone.name
                and place.level is not None
                and place.level.rank >= asset.level.rank
                for place in view.held(spent)
            )
        )
        for spent in range(ZERO_DAYS_SHOWN)
    )


def coverage(view: View, scale: Scale) -> EvidenceCoverage:
    """Shares of the surface whose weakest fact is at least observed, and probed."""
    whole = total(view, scale)
    if whole == 0:
        return EvidenceCoverage(0.0, 0.0)

    def share(grade: Grade) -> float:
        kept = [v for v in view.vectors if _grade(v).rank >= grade.rank]
        return round(sum(view.weigh(vector, scale) for vector in kept) / whole, 4)

    return EvidenceCoverage(share(Grade.OBSERVED), share(Grade.PROBED))


def _grade(vector: OpenVector) -> Grade:
    return weakest([item.grade for item in vector.evidence])


def histogram(view: View) -> dict[tuple[str, int], int]:
    """How many vectors there are by (class of worth, steps), for a quick sum on any scale.

    The class is `data`, `user`, `admin` or `admin_alone`, which are also the scale's fields.
    """
    found: dict[tuple[str, int], int] = {}
    for vector in view.vectors:
        steps = view.steps(vector)
        if steps is None or vector.edge.gives.level is None or not vector.edge.leads:
            continue
        name = str(vector.edge.gives.level)
        if name == "admin" and not holds_beyond(vector.edge.gives.zone, view.deployment):
            name = "admin_alone"
        found[name, steps] = found.get((name, steps), 0) + 1
    return found


def on_scale(counts: dict[tuple[str, int], int], scale: Scale) -> float:
    """The surface that a histogram has on `scale`."""
    worths = msgspec.structs.asdict(scale)
    return tidy(
        sum(number * worths[name] / scale.discount**step for (name, step), number in counts.items())
    )
