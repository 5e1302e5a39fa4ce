"""Vectors by the step that they make: where most of the surface lies, in a line each."""

from __future__ import annotations

import msgspec

from ringfence.model.measurement import Measurement
from ringfence.model.position import Position


class Hop(msgspec.Struct, frozen=True):
    """All vectors from one position to another: their ids, and the sum of their weights."""

    source: Position
    gives: Position
    weight: float
    vectors: tuple[str, ...]


def hops(result: Measurement) -> list[Hop]:
    """Every hop that weighs something, the heaviest first."""
    found: dict[tuple[Position, Position], list[tuple[float, str]]] = {}
    for vector in result.vectors:
        if vector.weight > 0:
            key = (vector.needs.position, vector.gives)
            found.setdefault(key, []).append((vector.weight, vector.id))
    made = [
        Hop(source, gives, sum(weight for weight, _ in rows), tuple(name for _, name in rows))
        for (source, gives), rows in found.items()
    ]
    return sorted(made, key=lambda hop: -hop.weight)
