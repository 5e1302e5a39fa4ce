"""How far an order depends on the scale: the draws, the share in which it holds, the pairs."""

from __future__ import annotations

import math
import random

import msgspec
import pytest

from ringfence.knowledge.loader import load
from ringfence.knowledge.records import Scale
from ringfence.measure.sensitivity import FACTOR, draw, order_of, sensitivity

KNOWLEDGE = load()
CLASSIC, ASSETS = KNOWLEDGE.scales["classic"], KNOWLEDGE.scales["assets"]


@pytest.mark.parametrize("scale", [CLASSIC, ASSETS], ids=lambda scale: scale.id)
def test_draws_stay_within_a_factor_of_ten_and_keep_their_order(scale: Scale) -> None:
    source = random.Random(7)
    for _ in range(2000):
        drawn = draw(scale, source)
        assert drawn.data <= drawn.user <= drawn.admin_alone <= drawn.admin
        assert drawn.discount >= 1
        for name in ("data", "user", "admin", "admin_alone", "discount"):
            ratio = getattr(drawn, name) / getattr(scale, name)
            assert 1 / FACTOR <= ratio <= FACTOR


def test_draws_are_log_uniform() -> None:
    """Of worths that no order constrains, half of the draws lie on either side."""
    free = msgspec.structs.replace(CLASSIC, data=1e-9, user=1.0, admin=1e9, admin_alone=1e9,
                                   discount=1e6)  # fmt: skip
    source = random.Random(7)
    logs = [math.log10(draw(free, source).user) for _ in range(4000)]
    assert abs(sum(logs) / len(logs)) < 0.03
    assert abs(sum(1 for value in logs if abs(value) < 0.5) / len(logs) - 0.5) < 0.03


def test_an_order_that_no_scale_can_change_always_holds() -> None:
    found = sensitivity({"a": {("data", 0): 1}, "b": {("data", 0): 2}}, CLASSIC, KNOWLEDGE.scales)
    assert found.holds == 1.0
    assert found.swaps == ()
    assert found.reasons == ()


def test_the_share_is_that_of_a_simulation_written_otherwise() -> None:
    """Twenty users outright against one admin after one exploit: 20 u against a / d."""
    histograms = {"users": {("user", 0): 20}, "admin": {("admin", 1): 11}}
    found = sensitivity(histograms, CLASSIC, {"classic": CLASSIC})
    assert order_of(histograms, CLASSIC) == ("users", "admin")
    source = random.Random(99)
    held = tries = 0
    while tries < 20_000:
        data, user, admin, discount = (
            value * 10 ** source.uniform(-1, 1) for value in (1, 5, 100, 10)
        )
        if not (data <= user <= admin and discount >= 1):
            continue
        tries += 1
        held += 20 * user <= 11 * admin / discount
    assert found.holds == pytest.approx(held / tries, abs=0.04)
    (swap,) = found.swaps
    assert {swap.first, swap.second} == {"users", "admin"}
    assert swap.share == pytest.approx(1 - found.holds, abs=1e-9)


def test_the_same_question_has_the_same_answer() -> None:
    histograms = {"a": {("user", 0): 20}, "b": {("admin", 1): 11}}
    first = sensitivity(histograms, CLASSIC, KNOWLEDGE.scales)
    assert first == sensitivity(dict(reversed(histograms.items())), CLASSIC, KNOWLEDGE.scales)


def test_another_order_under_another_scale_has_its_reason() -> None:
    """Admin of a zone that holds nothing else is worth ten times less under assets."""
    histograms = {"guest": {("admin_alone", 0): 1}, "host": {("user", 0): 12}}
    found = sensitivity(histograms, CLASSIC, KNOWLEDGE.scales)
    assert found.orders["classic"] == ("host", "guest")
    assert found.orders["assets"] == ("guest", "host")
    (reason,) = found.reasons
    assert "under assets 1 pair(s) change places" in reason
    assert "guest" in reason


def test_of_equal_moves_the_first_in_the_order_is_named() -> None:
    """A set of eight would name another in seven of eight runs."""
    guests = {f"guest-{number}": {("admin_alone", 0): 1} for number in range(8)}
    found = sensitivity({**guests, "host": {("user", 0): 12}}, CLASSIC, KNOWLEDGE.scales)
    assert found.orders["classic"] == ("host", *guests)
    (reason,) = found.reasons
    assert "moves guest-0 most" in reason
