"""Which fact made each difference between deployments: who has a vector, and what closes it."""

from __future__ import annotations

from ringfence.model.evidence import Evidence
from ringfence.model.measurement import Difference, Measurement, Vector
from ringfence.model.position import OUTSIDE


def differences(results: tuple[Measurement, ...]) -> tuple[Difference, ...]:
    """Every vector beyond the entry that not all of `results` have, the heaviest first.

    Where a vector is neither open nor closed it makes no sense there (a way out of a container,
    on a plain server), and no fact closes it.
    """
    opened = {item.deployment.name: _open(item) for item in results}
    shut = {
        item.deployment.name: {vector.id: vector.evidence for vector in item.closed}
        for item in results
    }
    every = {vector.id: vector for vectors in opened.values() for vector in vectors.values()}
    found = [
        Difference(
            vector=name,
            title=vector.title,
            weights={place: own[name].weight for place, own in opened.items() if name in own},
            closed_by={
                place: _first(facts[name]) for place, facts in shut.items() if facts.get(name)
            },
        )
        for name, vector in every.items()
        if not all(name in own for own in opened.values())
    ]
    return tuple(sorted(found, key=lambda item: (-max(item.weights.values()), item.vector)))


def _open(result: Measurement) -> dict[str, Vector]:
    return {
        vector.id: vector
        for vector in result.vectors
        if vector.steps is not None and vector.needs.position != OUTSIDE
    }


def _first(evidence: tuple[Evidence, ...]) -> Evidence:
    """The best known of the facts that close it: one alone would be enough."""
    return max(evidence, key=lambda item: item.grade.rank)
