"""The plan: the smallest set of mechanisms that reaches the least surface.

The least surface is that of all plannable mechanisms together, since none ever raises it. The
smallest set that reaches it is found by implicit hitting sets (Moreno-Centeno and Karp,
doi:10.1287/opre.1120.1139): an exact solver proposes the cheapest set that meets the
cuts known so far; if the measure says that it does not reach the least surface, every mechanism
outside a largest set that still fails is a new cut, of which at least one must be taken. It ends
with a set that is proved smallest, and the measure itself is the only judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from ringfence.knowledge.records import Knowledge, Mechanism, Scale, Start
from ringfence.measure.mechanisms import state_of, switched
from ringfence.measure.openings import LANDING_ADMIN, LANDING_ROOT, find
from ringfence.measure.surface import View, tidy, total, zero_days
from ringfence.model.deployment import Deployment, Switch
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.measurement import PlanStep
from ringfence.model.need import State, leaves

TURNED_ON = Evidence(Grade.ASSUMED, "plan", "turned on by the plan")
MOST_ROUNDS = 400
"""Cuts after which the search stops with the best set so far, said to be not proved smallest."""


class Plan(msgspec.Struct, frozen=True):
    """Steps in order; `optimal` tells whether no smaller set reaches the same surface."""

    steps: tuple[PlanStep, ...]
    optimal: bool


class Oracle:
    """What the deployment measures with a set of candidate mechanisms turned on."""

    def __init__(
        self, deployment: Deployment, knowledge: Knowledge, start: Start, scale: Scale
    ) -> None:
        self.deployment = deployment
        self.knowledge = knowledge
        self.start = start
        self.scale = scale
        self.candidates = tuple(_candidates(deployment, knowledge))
        self._views: dict[frozenset[str], View] = {}

    def view(self, chosen: Iterable[str]) -> View:
        """The deployment with the mechanisms `chosen` (ids) turned on, seen from the start."""
        key = frozenset(chosen)
        if key not in self._views:
            mechanisms = [self.knowledge.mechanisms[name] for name in key]
            changed = switched(self.deployment, self.knowledge, mechanisms, State.CLOSED, TURNED_ON)
            self._views[key] = View(changed, find(changed, self.knowledge).open, self.start)
        return self._views[key]

    def surface(self, chosen: Iterable[str]) -> float:
        """Surface with the mechanisms `chosen` turned on."""
        return total(self.view(chosen), self.scale)


def plan(oracle: Oracle) -> Plan:
    """The smallest set of mechanisms that reaches the least surface, in order of what it gains."""
    names = [mechanism.id for mechanism in oracle.candidates]
    least = oracle.surface(names)
    if not names or least == oracle.surface(()):
        return Plan((), True)
    costs = {mechanism.id: 100 + mechanism.effort for mechanism in oracle.candidates}
    chosen, optimal = smallest(names, costs, lambda picked: oracle.surface(picked) <= least)
    return Plan(tuple(_steps(oracle, chosen)), optimal)


def smallest(
    names: list[str], costs: dict[str, int], enough: Callable[[frozenset[str]], bool]
) -> tuple[frozenset[str], bool]:
    """The cheapest subset of `names` for which the monotone `enough` holds; and if proved so.

    `enough` must hold for all of `names`, and for every superset of a set it holds for.
    """
    cuts: list[frozenset[str]] = []
    everything = frozenset(names)
    for _ in range(MOST_ROUNDS):
        chosen = _hitting_set(costs, cuts)
        if enough(chosen):
            return chosen, True
        cuts.append(everything - _grown(chosen, names, enough))
    return _shrunk(everything, names, enough), False


def _grown(
    failing: frozenset[str], names: list[str], enough: Callable[[frozenset[str]], bool]
) -> frozenset[str]:
    """A largest superset of `failing` that still fails, so that its complement is a strong cut."""
    grown = failing
    for name in names:
        if name not in grown and not enough(grown | {name}):
            grown |= {name}
    return grown


def _shrunk(
    whole: frozenset[str], names: list[str], enough: Callable[[frozenset[str]], bool]
) -> frozenset[str]:
    """A subset from which no single name can be taken away."""
    for name in names:
        if enough(whole - {name}):
            whole -= {name}
    return whole


def _hitting_set(costs: dict[str, int], cuts: list[frozenset[str]]) -> frozenset[str]:
    """The cheapest set that meets every cut."""
    if not cuts:
        return frozenset()
    from ringfence.measure.cover import cheapest_cover  # heavy: only a plan needs it

    return cheapest_cover(costs, cuts)


def _candidates(deployment: Deployment, knowledge: Knowledge) -> list[Mechanism]:
    """Mechanisms that are not on, can be turned on, and close something that a vector needs."""
    kinds = {line.kind for line in deployment.boundaries}
    needed = {LANDING_ADMIN, LANDING_ROOT}
    for vector in find(deployment, knowledge).open:
        needed.update(leaves(vector.need))
    return [
        mechanism
        for mechanism in knowledge.mechanisms.values()
        if mechanism.plan
        and mechanism.boundary in kinds
        and state_of(mechanism, deployment, knowledge).state is not Switch.ON
        and knowledge.closed_by[mechanism.id] & needed
    ]


def _steps(oracle: Oracle, chosen: frozenset[str]) -> list[PlanStep]:
    """The chosen mechanisms, each time the one that removes most surface next."""
    steps: list[PlanStep] = []
    done: list[str] = []
    rest = sorted(chosen)
    while rest:
        best = min(rest, key=lambda name: (oracle.surface((*done, name)), name))
        before = {vector.id for vector in oracle.view(done).vectors}
        rest.remove(best)
        done.append(best)
        view = oracle.view(done)
        mechanism = oracle.knowledge.mechanisms[best]
        after = {vector.id for vector in view.vectors}
        steps.append(
            PlanStep(
                mechanism=best,
                title=mechanism.title,
                setting=mechanism.settings,
                removes=tuple(sorted(before - after)),
                surface_after=tidy(oracle.surface(done)),
                zero_days_after=zero_days(view),
            )
        )
    return steps
