"""Bits of randomisation: never more than were drawn, and none where nothing was."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.guest.layout import bits


def test_equal_addresses_are_none() -> None:
    assert bits([[0x400000]] * 5) == 0


def test_too_few_boots_say_nothing() -> None:
    assert bits([]) is None
    assert bits([[0x400000], [], []]) is None


def test_an_address_that_comes_again_in_every_boot_is_not_random() -> None:
    """Other threads beside it come and go."""
    assert bits([[0x9000, 0x9000, 0x1000], [0x1000, 0x7000, 0x7000], [0x1000, 0x5000]]) == 0


def test_addresses_that_come_again_in_some_boots_alone_tell_nothing() -> None:
    """They may be two that are fixed, of which each boot showed one or both."""
    assert bits([[1], [1, 2], [2]]) is None
    assert bits([[1], [1, 2], [3]]) == 1


@pytest.mark.parametrize("apart", [0x1000, 1 << 40])
def test_how_far_apart_two_lie_says_nothing(apart: int) -> None:
    assert bits([[0], [apart]]) == 1


def test_four_places_are_two_bits_whatever_the_boots() -> None:
    """A stack that lies at one of four addresses, far apart and at no step."""
    places = [0x144000, 0x150000, 0x15F000, 0x1FE000]
    assert bits([[places[number % 4]] for number in range(5)]) == 2
    assert bits([[place] for place in places[:3]]) == 1.5
    source = random.Random(4)
    for _ in range(200):
        found = bits([[source.choice(places)] for _ in range(5)])
        assert found is not None and found <= 2


@given(st.lists(st.integers(0, 9), min_size=2, max_size=9))
def test_it_is_the_number_of_different_values(values: list[int]) -> None:
    found = bits([[value] for value in values])
    assert found is not None
    assert found <= math.log2(len(set(values))) < found + 0.1
    assert found == bits([[value << 30] for value in reversed(values)])
