"""How far the order of deployments depends on the scale, which is a judgement."""

from __future__ import annotations

import random
from itertools import combinations

import msgspec

from ringfence.knowledge.records import Scale
from ringfence.measure.surface import on_scale
from ringfence.model.measurement import Sensitivity, Swap

DRAWS = 2000
SEED = 20261124
FACTOR = 10.0

Histogram = dict[tuple[str, int], int]


def order_of(histograms: dict[str, Histogram], scale: Scale) -> tuple[str, ...]:
    """Names by rising surface on `scale`; equal surfaces in alphabetical order."""
    return tuple(sorted(histograms, key=lambda name: (on_scale(histograms[name], scale), name)))


def draw(scale: Scale, source: random.Random) -> Scale:
    """A scale near `scale`: worths and discount log-uniform within a factor of ten.

    Worths keep their order and the discount stays at least 1: other draws are thrown away.
    `admin_alone` moves with `admin` where the scale holds the two equal.
    """

    def near(value: float) -> float:
        return float(value * FACTOR ** source.uniform(-1, 1))

    while True:
        data, user, admin, discount = map(
            near, (scale.data, scale.user, scale.admin, scale.discount)
        )
        alone = admin if scale.admin_alone == scale.admin else near(scale.admin_alone)
        if data <= user <= alone <= admin and discount >= 1:
            return msgspec.structs.replace(
                scale, data=data, user=user, admin=admin, admin_alone=alone, discount=discount
            )


def sensitivity(
    histograms: dict[str, Histogram], scale: Scale, scales: dict[str, Scale]
) -> Sensitivity:
    """The order under every scale, and how often it holds when the scale is drawn at random."""
    orders = {name: order_of(histograms, item) for name, item in scales.items()}
    base = order_of(histograms, scale)
    source = random.Random(SEED)  # noqa: S311 - repeatable draws, nothing secret
    swapped: dict[tuple[str, str], int] = {}
    held = 0
    for _ in range(DRAWS):
        drawn = draw(scale, source)
        values = {name: on_scale(counts, drawn) for name, counts in histograms.items()}
        pairs = [pair for pair in combinations(base, 2) if values[pair[0]] > values[pair[1]]]
        held += not pairs
        for pair in pairs:
            swapped[pair] = swapped.get(pair, 0) + 1
    swaps = sorted(swapped.items(), key=lambda item: (-item[1], item[0]))
    return Sensitivity(
        orders=orders,
        draws=DRAWS,
        seed=SEED,
        holds=held / DRAWS,
        swaps=tuple(Swap(a, b, count / DRAWS) for (a, b), count in swaps),
        reasons=tuple(_reasons(histograms, scale, scales)),
    )


def _reasons(histograms: dict[str, Histogram], scale: Scale, scales: dict[str, Scale]) -> list[str]:
    """For each scale that orders otherwise: the first pair that swaps, and what made it."""
    base = order_of(histograms, scale)
    reasons = []
    for name, other in scales.items():
        swapped = [
            (first, second)
            for first, second in combinations(base, 2)
            if on_scale(histograms[first], other) > on_scale(histograms[second], other)
        ]
        if not swapped:
            continue
        moved = {place for pair in swapped for place in pair}
        # Of equal moves the first in the order is named: a set has another order in each run.
        cause = max(
            (place for place in base if place in moved),
            key=lambda place: abs(_change(histograms[place], scale, other)),
        )
        reasons.append(
            f"under {name} {len(swapped)} pair(s) change places, for example {swapped[0][1]} "
            f"before {swapped[0][0]}: admin of a zone that holds nothing beyond the service is "
            f"worth {other.admin_alone:g} there and {scale.admin_alone:g} in {scale.id}, which "
            f"moves {cause} most ({on_scale(histograms[cause], scale):g} to "
            f"{on_scale(histograms[cause], other):g})"
        )
    return reasons


def _change(counts: Histogram, scale: Scale, other: Scale) -> float:
    return on_scale(counts, other) - on_scale(counts, scale)
