"""Prices against a reference that tries every order of every set of vectors."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.measure.graph import Edge, Prices, implied
from ringfence.model.deployment import Means
from ringfence.model.position import OUTSIDE, Level, Position

ZONES = ("container", "system", "machine")
PLACES = [OUTSIDE, *(Position(zone, level) for zone in ZONES for level in Level)]
EDGES = st.builds(
    Edge,
    source=st.sampled_from(PLACES),
    gives=st.sampled_from(PLACES[1:]),
    means=st.sampled_from(list(Means)),
    exploit=st.sampled_from("abcd"),
)


def costs(means: Means) -> bool:
    return means is not Means.MISCONFIGURATION


def reached_with(edges: list[Edge], owned: frozenset[str]) -> set[Position]:
    """All positions reached by whoever owns exactly these exploits: a plain fixed point."""
    held = {OUTSIDE}
    free = [(first, second) for first, second in implied(ZONES)]
    while True:
        more = {edge.gives for edge in edges if edge.source in held
                and (not costs(edge.means) or edge.exploit in owned)}  # fmt: skip
        more |= {second for first, second in free if first in held}
        if more <= held:
            return held
        held |= more


def reference(edges: list[Edge]) -> dict[Position, int]:
    """The least number of distinct exploits for each position, by trying every set of them."""
    names = sorted({edge.exploit for edge in edges})
    prices: dict[Position, int] = {}
    for size in range(len(names) + 1):
        for owned in combinations(names, size):
            for place in reached_with(edges, frozenset(owned)):
                prices.setdefault(place, size)
    return prices


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(EDGES, max_size=9))
def test_prices_are_those_of_the_reference(edges: list[Edge]) -> None:
    found = Prices(edges, ZONES, [OUTSIDE], costs=costs)
    expected = reference(edges)
    assert found.reached() == frozenset(expected)
    for place, price in expected.items():
        assert found.price(place) == price


def test_one_vulnerability_used_twice_counts_once() -> None:
    user, admin = Position("system", Level.USER), Position("system", Level.ADMIN)
    twice = [Edge(OUTSIDE, user, Means.ZERO_DAY, "x"), Edge(user, admin, Means.ZERO_DAY, "x")]
    assert Prices(twice, ("system",), [OUTSIDE], costs=costs).price(admin) == 1
    other = [twice[0], Edge(user, admin, Means.ZERO_DAY, "y")]
    assert Prices(other, ("system",), [OUTSIDE], costs=costs).price(admin) == 2


def test_the_cheaper_way_is_not_always_the_one_that_starts_cheaper() -> None:
    """Spending `x` early pays off where it is needed again."""
    data, user, admin = (Position("system", level) for level in Level)
    edges = [
        Edge(OUTSIDE, user, Means.MISCONFIGURATION, "m"),
        Edge(OUTSIDE, data, Means.ZERO_DAY, "x"),
        Edge(user, admin, Means.ZERO_DAY, "y"),
        Edge(data, admin, Means.ZERO_DAY, "x"),
    ]
    assert Prices(edges, ("system",), [OUTSIDE], costs=costs).price(admin) == 1


def test_what_is_not_usable_is_left_out() -> None:
    admin = Position("system", Level.ADMIN)
    edges = [Edge(OUTSIDE, admin, Means.KNOWN, "k")]
    without = Prices(
        edges, ("system",), [OUTSIDE], costs=costs, usable=lambda means: means is not Means.KNOWN
    )
    assert without.price(admin) is None
    assert without.price_of_use(edges[0]) is None
