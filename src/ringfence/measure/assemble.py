"""One deployment to one measurement, and several to a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ringfence.knowledge.records import Knowledge, Mechanism, Scale
from ringfence.measure import plan as planning
from ringfence.measure.differences import differences
from ringfence.measure.mechanisms import describe, state_of, switched
from ringfence.measure.needs import decide
from ringfence.measure.openings import Openings, OpenVector, find
from ringfence.measure.sensitivity import order_of, sensitivity
from ringfence.measure.surface import (
    View,
    blast_radius,
    coverage,
    histogram,
    profile,
    surface,
    zero_days,
)
from ringfence.measure.undecided import undecided
from ringfence.model.deployment import ENTRY_POINTS, Count, Deployment, Reach, Switch
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.facts import Target
from ringfence.model.measurement import (
    COMPARISON_SCHEMA,
    SCHEMA,
    ClosedVector,
    Comparison,
    DeploymentSummary,
    Measurement,
    PlanStep,
    References,
    Vector,
    VectorNeeds,
)
from ringfence.model.need import State, leaves
from ringfence.model.position import Level


class Asked(msgspec.Struct, frozen=True):
    """How a deployment is to be measured: start (id, or empty for automatic), scale, plan."""

    scale: Scale
    start: str = ""
    plan: bool = True


def choose_start(deployments: Sequence[Deployment], knowledge: Knowledge) -> str:
    """The farthest start from which some entry point of each deployment can be reached.

    A surface is always stated for a start; a service on loopback has none from the internet, so
    the natural question about it starts nearer. A deployment without entry points decides nothing
    beside others that have some; where none has any: supply-chain. An entry point that is only
    supposed decides nothing either: a start that is too far away would make the surface smaller.
    """
    sure = [
        [point.reach.rank for point in deployment.entry_points if not point.supposed]
        for deployment in deployments
    ]
    farthest = [min(ranks) for ranks in sure if ranks]
    outside = [start for start in knowledge.starts.values() if not start.inside]
    for start in sorted(outside, key=lambda item: Reach(item.reach).rank):
        if farthest and max(farthest) <= Reach(start.reach).rank:
            return start.id
    return next(start.id for start in knowledge.starts.values() if start.inside)


def measure(
    target: Target, deployment: Deployment, knowledge: Knowledge, asked: Asked
) -> Measurement:
    """The measurement of `deployment`, with every number's evidence."""
    start = asked.start or choose_start((deployment,), knowledge)
    openings = find(deployment, knowledge)
    views = {name: View(deployment, openings.open, item) for name, item in knowledge.starts.items()}
    view = views[start]
    steps, optimal = _plan(deployment, knowledge, asked, start)
    return Measurement(
        schema=SCHEMA,
        target=target,
        deployment=DeploymentSummary(
            name=deployment.name,
            zones=view.zones,
            kernel_zone=deployment.kernel_zone,
            ring=deployment.ring,
            boundaries=describe(deployment, knowledge),
            notes=deployment.notes,
            lower_bound=deployment.lower_bound,
        ),
        entry_points=deployment.entry_points,
        vectors=tuple(_vectors(openings, views, start, knowledge, asked.scale, deployment)),
        closed=tuple(_closed(openings, deployment, knowledge)),
        scale=asked.scale.id,
        start=start,
        surface=surface(views, start, knowledge, asked.scale),
        profile=profile(view),
        zero_days_to_admin=zero_days(view),
        blast_radius=blast_radius(view),
        evidence_coverage=coverage(view, asked.scale),
        counts=_counts(deployment, openings, views, start),
        unseen=(*deployment.unseen, *undecided(deployment)),
        plan=steps,
        plan_optimal=optimal,
    )


def _plan(
    deployment: Deployment, knowledge: Knowledge, asked: Asked, start: str
) -> tuple[tuple[PlanStep, ...], bool | None]:
    if not asked.plan:
        return (), None
    oracle = planning.Oracle(deployment, knowledge, knowledge.starts[start], asked.scale)
    found = planning.plan(oracle)
    return found.steps, found.optimal


def _vectors(
    openings: Openings,
    views: dict[str, View],
    start: str,
    knowledge: Knowledge,
    scale: Scale,
    deployment: Deployment,
) -> Iterable[Vector]:
    """Vectors that some attacker can reach, the heaviest first."""
    made = []
    blockers = _Blockers(deployment, knowledge)
    for vector in openings.open:
        reachable = tuple(
            f"{name}/{level.id}"
            for name, view in views.items()
            for level in knowledge.sophistications.values()
            if view.usable_by(vector, level)
        )
        if not reachable and all(view.steps(vector) is None for view in views.values()):
            continue
        made.append(
            Vector(
                id=vector.id,
                title=vector.title,
                needs=VectorNeeds(vector.edge.source, vector.conditions),
                gives=vector.edge.gives,
                means=vector.edge.means,
                exploit=vector.edge.exploit,
                weight=views[start].weigh(vector, scale),
                steps=views[start].steps(vector),
                reachable_by=reachable,
                blocked_by=blockers.of(vector),
                evidence=vector.evidence,
                references=_references(vector),
            )
        )
    return sorted(made, key=lambda item: (-item.weight, item.id))


def _references(vector: OpenVector) -> References:
    origin = vector.origin
    return References(origin.attack, origin.cwe, origin.cve, origin.sources)


class _Blockers:
    """Mechanisms of a deployment each of which, turned on alone, would remove a vector."""

    def __init__(self, deployment: Deployment, knowledge: Knowledge) -> None:
        self._deployment = deployment
        self._knowledge = knowledge
        self._left: dict[str, set[str]] = {}

    def of(self, vector: OpenVector) -> tuple[str, ...]:
        """Ids of the mechanisms that would remove `vector`."""
        kinds = {line.kind for line in self._deployment.boundaries}
        needed = set(leaves(vector.need))
        return tuple(
            mechanism.id
            for mechanism in self._knowledge.mechanisms.values()
            if mechanism.boundary in kinds
            and self._knowledge.closed_by[mechanism.id] & needed
            and self._removes(mechanism, vector)
        )

    def _removes(self, mechanism: Mechanism, vector: OpenVector) -> bool:
        if decide(vector.need, self._with(mechanism), vector.level).open:
            return False
        # What binds the service's own user alone may leave the vector to the zone's admin.
        bound = mechanism.holds_admin or vector.level is Level.ADMIN
        return bound or vector.id not in self._left_by(mechanism)

    def _left_by(self, mechanism: Mechanism) -> set[str]:
        """Ids of the vectors that some attacker can still reach with the mechanism on."""
        if mechanism.id not in self._left:
            changed = self._with(mechanism)
            found = find(changed, self._knowledge).open
            views = [View(changed, found, start) for start in self._knowledge.starts.values()]
            self._left[mechanism.id] = {
                vector.id
                for vector in found
                if any(view.steps(vector) is not None for view in views)
            }
        return self._left[mechanism.id]

    def _with(self, mechanism: Mechanism) -> Deployment:
        turned_on = Evidence(Grade.ASSUMED, "plan")
        return switched(self._deployment, self._knowledge, (mechanism,), State.CLOSED, turned_on)


def _closed(
    openings: Openings, deployment: Deployment, knowledge: Knowledge
) -> Iterable[ClosedVector]:
    on = [
        mechanism.id
        for mechanism in knowledge.mechanisms.values()
        if state_of(mechanism, deployment, knowledge).state in (Switch.ON, Switch.PARTIAL)
    ]
    for vector in openings.shut:
        held = (name for name in on if knowledge.closed_by[name].intersection(vector.conditions))
        yield ClosedVector(vector.id, vector.title, tuple(held), vector.evidence)


def _counts(
    deployment: Deployment, openings: Openings, views: dict[str, View], start: str
) -> dict[str, Count]:
    """The one-dimensional counts: what the deployment knows, and those of its vectors."""
    derived = Evidence(Grade.OBSERVED, "ringfence", "counted in this measurement")
    view = views[start]
    machine = [
        vector
        for vector in openings.open
        if vector.edge.gives.zone == deployment.machine_zone
        and len(deployment.zones) > 1
        and vector.reach is None
    ]
    reachable = [vector for vector in view.vectors if view.steps(vector) is not None]
    points = Count(len(deployment.entry_points), derived)
    return {
        **deployment.counts,
        ENTRY_POINTS: deployment.counts.get(ENTRY_POINTS, points),
        "vectors": Count(len(reachable), derived),
        "interfaces_to_machine": Count(len(machine), derived),
    }


def compare(
    placed: list[tuple[Target, Deployment]], knowledge: Knowledge, asked: Asked
) -> Comparison:
    """The same service in several deployments, from one start, on one scale."""
    start = asked.start or choose_start([one for _, one in placed], knowledge)
    fixed = msgspec.structs.replace(asked, start=start)
    results = tuple(measure(target, deployment, knowledge, fixed) for target, deployment in placed)
    histograms = {
        deployment.name: histogram(
            View(deployment, find(deployment, knowledge).open, knowledge.starts[start])
        )
        for _, deployment in placed
    }
    return Comparison(
        schema=COMPARISON_SCHEMA,
        measurements=results,
        order=order_of(histograms, asked.scale),
        differences=differences(results),
        sensitivity=sensitivity(histograms, asked.scale, knowledge.scales),
    )
