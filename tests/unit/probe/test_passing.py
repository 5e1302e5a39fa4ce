"""Arguments that pass a filter, found in the filter itself."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable

import pytest

from ringfence.collect.seccomp.tables import native_calls
from ringfence.probe.passing import may_pass, passing
from tests.seccomp import ALLOW, ERRNO, Instruction

CALL = native_calls()["socket"]
LOAD, AND, EQUAL, GREATER, ANY_BIT, RETURN = 0x20, 0x54, 0x15, 0x25, 0x45, 0x06
REFUSE = ERRNO | 1


def program(*about: Instruction) -> bytes:
    """A filter of one call, which goes on with `about`; the others pass."""
    head = [(LOAD, 0, 0, 0), (EQUAL, 1, 0, CALL), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *one) for one in (*head, *about))


def only(index: int, *test: Instruction) -> tuple[Instruction, ...]:
    """Refuses where the low word of an argument does not pass the test, whose last jump is it."""
    code, _, _, k = test[-1]
    return (
        (LOAD, 0, 0, 16 + 8 * index), *test[:-1], (code, 1, 0, k), (RETURN, 0, 0, REFUSE),
    )  # fmt: skip


PASS = (RETURN, 0, 0, ALLOW)
NARROW = {
    "a value": (*only(1, (EQUAL, 0, 0, 0o2000001)), PASS),
    "two arguments": (*only(0, (EQUAL, 0, 0, 2)), *only(1, (EQUAL, 0, 0, 0o2000001)), PASS),
    "under a mask": (*only(1, (AND, 0, 0, 0xF0), (EQUAL, 0, 0, 0x50)), PASS),
    "above": (*only(2, (GREATER, 0, 0, 1000)), PASS),
    "a bit": (*only(2, (ANY_BIT, 0, 0, 0x400)), PASS),
    "a high word": ((LOAD, 0, 0, 44), (EQUAL, 1, 0, 7), (RETURN, 0, 0, REFUSE), PASS),
}


@pytest.mark.parametrize("about", NARROW.values(), ids=NARROW)
def test_what_a_filter_asks_for_is_found(about: tuple[Instruction, ...]) -> None:
    one = program(*about)
    assert may_pass((one,), CALL)
    found = passing((one,), CALL)
    assert found is not None
    assert may_pass((one,), CALL, tuple(enumerate(found)))
    assert not may_pass((one,), CALL, tuple((index, 3) for index in range(6)))


def none_of(index: int, values: Iterable[int]) -> tuple[Instruction, ...]:
    """Refuses where the low word of an argument is one of these."""
    tests = [((EQUAL, 0, 1, value), (RETURN, 0, 0, REFUSE)) for value in values]
    return ((LOAD, 0, 0, 16 + 8 * index), *itertools.chain.from_iterable(tests))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [(range(5, 605), {0, 1, 4, 605, 0xFFFFFFFF}), (range(600), {600, 0xFFFFFFFF})],
)
def test_two_arguments_with_many_refused_values(values: range, wanted: set[int]) -> None:
    one = program(*none_of(0, values), *none_of(1, values), PASS)
    found = passing((one,), CALL)
    assert found is not None
    assert wanted.issuperset(found[:2]) and may_pass((one,), CALL, tuple(enumerate(found)))
    shut = program(*none_of(0, values), *none_of(1, values), (RETURN, 0, 0, REFUSE))
    assert passing((shut,), CALL) is None


def test_a_late_value_of_one_argument_and_many_refused_of_another() -> None:
    one = program(*none_of(0, range(300)), *only(1, (EQUAL, 0, 0, 7)), PASS)
    found = passing((one,), CALL)
    assert found is not None and found[0] >= 300 and found[1] == 7


def test_every_filter_must_let_it_through() -> None:
    first, second = (program(*only(0, (EQUAL, 0, 0, 2)), PASS),
                     program(*only(1, (EQUAL, 0, 0, 5)), PASS))  # fmt: skip
    found = passing((first, second), CALL)
    assert found is not None and found[:2] == (2, 5)
    assert passing((first, program(*only(0, (EQUAL, 0, 0, 3)), PASS)), CALL) is None


def test_a_call_that_no_argument_opens() -> None:
    shut = program((RETURN, 0, 0, REFUSE))
    assert not may_pass((shut,), CALL)
    assert passing((shut,), CALL) is None
    assert may_pass((shut,), CALL + 1)


def test_given_arguments_stay() -> None:
    one = program(*only(0, (EQUAL, 0, 0, 2)), *only(1, (EQUAL, 0, 0, 5)), PASS)
    assert passing((one,), CALL, ((0, 2),)) == (2, 5, 0, 0, 0, 0)
    assert not may_pass((one,), CALL, ((0, 3),))


def but_not(name: str, index: int, value: int) -> bytes:
    """Refuses a call whose argument is this value, compared in all 64 bits as libseccomp does."""
    low = 16 + 8 * index
    about = (
        (LOAD, 0, 0, 0), (EQUAL, 0, 5, native_calls()[name]),
        (LOAD, 0, 0, low + 4), (EQUAL, 0, 3, value >> 32),
        (LOAD, 0, 0, low), (EQUAL, 0, 1, value & 0xFFFFFFFF), (RETURN, 0, 0, REFUSE), PASS,
    )  # fmt: skip
    return b"".join(struct.pack("=HBBI", *one) for one in about)


@pytest.mark.parametrize(
    ("name", "index", "value"), [("socket", 0, 40), ("ioctl", 1, 0x5412), ("clone", 0, 1 << 28)]
)
def test_the_upper_half_of_an_argument_that_the_kernel_takes_32_bits_of(
    name: str, index: int, value: int
) -> None:
    """Its low half is the family, the command: what is above passes by a comparison of 64 bits."""
    whole, number = but_not(name, index, value), native_calls()[name]
    assert may_pass((whole,), number, ((index, value),))
    found = passing((whole,), number, ((index, value),))
    assert found is not None
    assert found[index] & 0xFFFFFFFF == value and found[index] != value
    half = b"".join(struct.pack("=HBBI", *one) for one in (
        (LOAD, 0, 0, 0), (EQUAL, 0, 3, number), (LOAD, 0, 0, 16 + 8 * index), (EQUAL, 0, 1, value),
        (RETURN, 0, 0, REFUSE), PASS))  # fmt: skip
    assert not may_pass((half,), number, ((index, value),))
    assert passing((half,), number, ((index, value),)) is None


def test_the_upper_half_of_an_argument_that_the_kernel_takes_as_it_is() -> None:
    """unshare(2) refuses flags that it does not know, those of the upper half, too."""
    number, user = native_calls()["unshare"], ((0, 1 << 28),)
    assert not may_pass((but_not("unshare", *user[0]),), number, user)
