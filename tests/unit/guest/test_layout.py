"""Bits of randomisation: never more than were drawn, and none where nothing was."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.guest.layout import bits, usual


def test_equal_addresses_are_none() -> None:
    assert bits([[0x400000]] * 5) == 0


def test_too_few_boots_say_nothing() -> None:
    assert bits([]) is None
    assert bits([[0x400000], [], []]) is None


def test_an_address_that_comes_again_in_every_boot_is_not_random() -> None:
    """Other threads beside it come and go."""
    assert bits([[0x9000, 0x9000, 0x1000], [0x1000, 0x7000, 0x7000], [0x1000, 0x5000]]) == 0


def test_two_neighbours_are_one_bit_however_many_bits_differ() -> None:
    assert bits([[0xFFFF000], [0x10000000]]) == 1


def test_two_far_apart_are_one_bit_whatever_the_span() -> None:
    assert bits([[0], [1 << 40]]) == 1


def test_noise_in_low_bits_does_not_stretch_a_small_choice() -> None:
    """Two places 1 TiB apart, one of them shifted by a page: not 28 bits."""
    found = bits([[0], [1 << 40], [0x1000]])
    assert found is not None and found <= 2


@pytest.mark.parametrize("drawn", [9, 19, 27])
def test_most_of_what_was_drawn_is_found_and_never_more(drawn: int) -> None:
    source = random.Random(drawn)
    for _ in range(200):
        found = bits([[source.getrandbits(drawn) << 21] for _ in range(5)])
        assert found is not None
        assert 0 < found <= drawn
    typical = bits([[source.getrandbits(drawn) << 21] for _ in range(5)])
    assert typical is not None and typical > drawn - 5


@given(st.lists(st.integers(0, (1 << 20) - 1), min_size=2, max_size=9), st.integers(0, 1 << 40))
def test_neither_order_nor_base_matters(values: list[int], base: int) -> None:
    one = bits([[value << 12] for value in values])
    assert one == bits([[value << 12] for value in reversed(values)])
    assert one is not None and 0 <= one <= 20
    moved = bits([[(value << 12) + (base << 12)] for value in values])
    assert moved is not None and (moved == 0) == (one == 0)


def test_the_usual_value() -> None:
    assert usual([5, 3, 5, 3, 5]) == 5
    assert usual([5, 3]) == 3
    assert usual([]) is None
