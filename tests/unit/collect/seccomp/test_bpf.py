"""The interpreter against a concrete one written differently, on random programs."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.collect.seccomp.bpf import SEVERITY, Call, Outcome, combine, outcome_of, run
from ringfence.errors import InputError
from tests.seccomp import Instruction, encoded, native_refusing, refusing

RETURNS = (0x7FFF0000, 0x00050001, 0x00050026, 0x80000000, 0x00000000, 0x00030000, 0x7FFC0000,
           0x7FC00000, 0x7FF00000)  # fmt: skip
SMALL = st.sampled_from([0, 1, 2, 3, 16, 17, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
ALU = (0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0xA0)


def execute(program: list[Instruction], data: bytes) -> int:
    """The kernel's way, word by word: __bpf_prog_run of classic BPF, for concrete data."""
    a = x = at = 0
    store = [0] * 16
    while True:
        code, jt, jf, k = program[at]
        at += 1
        other = x if code & 8 else k
        match code & 7:
            case 6:
                return a if code & 0x18 == 0x10 else k
            case 0:
                modes = {0x00: k, 0x60: store[k & 15], 0x80: 64}
                if code & 0xE0 == 0x20:
                    (a,) = struct.unpack_from("=I", data, k)
                else:
                    a = modes[code & 0xE0]
            case 1:
                x = {0x00: k, 0x60: store[k & 15], 0x80: 64}[code & 0xE0]
            case 2:
                store[k & 15] = a
            case 3:
                store[k & 15] = x
            case 4:
                a = arithmetic(code & 0xF0, a, other)
            case 5:
                if code & 0xF0 == 0:
                    at += k
                else:
                    tests = {0x10: a == other, 0x20: a > other, 0x30: a >= other, 0x40: a & other}
                    at += jt if tests[code & 0xF0] else jf
            case _:
                if code & 0x80:
                    a = x
                else:
                    x = a


def arithmetic(operation: int, a: int, other: int) -> int:
    if operation == 0x30:
        return a // other if other else 0
    if operation == 0x80:
        return (-a) % 2**32
    if operation in (0x60, 0x70):
        moved = a << other if operation == 0x60 else a >> other
        return moved % 2**32 if other < 32 else 0
    result = {0x00: a + other, 0x10: a - other, 0x20: a * other, 0x40: a | other,
              0x50: a & other, 0xA0: a ^ other}[operation]  # fmt: skip
    return result % 2**32


@st.composite
def programs(draw: st.DrawFn) -> list[Instruction]:
    """Programs that the kernel would take: jumps forward and inside, a return at the end."""
    length = draw(st.integers(2, 12))
    made: list[Instruction] = []
    for at in range(length - 1):
        left = length - 2 - at
        kind = draw(st.sampled_from(["load", "jump", "jump", "alu", "move", "return"]))
        k = draw(SMALL)
        if kind == "load":
            made.append((0x20, 0, 0, draw(st.sampled_from([0, 4, 16, 20, 24, 28, 32]))))
        elif kind == "jump":
            code = 0x05 | draw(st.sampled_from([0x10, 0x20, 0x30, 0x40])) | draw(
                st.sampled_from([0, 8]))  # fmt: skip
            made.append((code, draw(st.integers(0, left)), draw(st.integers(0, left)), k))
        elif kind == "alu":
            operation = draw(st.sampled_from(ALU))
            k = draw(st.integers(1, 31)) if operation in (0x30, 0x60, 0x70) else k
            made.append((0x04 | operation | draw(st.sampled_from([0, 8])), 0, 0, k))
        elif kind == "move":
            code = draw(st.sampled_from([0x00, 0x01, 0x02, 0x03, 0x60, 0x61, 0x07, 0x87]))
            made.append((code, 0, 0, draw(st.integers(0, 15))))
        else:
            made.append((0x06, 0, 0, draw(st.sampled_from(RETURNS))))
    return [*made, (0x06, 0, 0, draw(st.sampled_from(RETURNS)))]


def data_of(number: int, architecture: int, words: list[int]) -> bytes:
    return struct.pack("=II8x", number, architecture) + struct.pack("=12I", *words)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(programs(), SMALL, SMALL, st.lists(SMALL, min_size=12, max_size=12))
def test_what_really_happens_is_among_what_can(
    program: list[Instruction], number: int, architecture: int, words: list[int]
) -> None:
    found = run(encoded(program), Call(number, architecture))
    really = outcome_of(execute(program, data_of(number, architecture, words)))
    assert really in found.outcomes


@settings(max_examples=400, deadline=None, derandomize=True)
@given(programs(), SMALL, SMALL, st.lists(SMALL, min_size=12, max_size=12))
def test_with_every_word_known_the_answer_is_exact(
    program: list[Instruction], number: int, architecture: int, words: list[int]
) -> None:
    known = tuple((16 + 4 * index, word) for index, word in enumerate(words))
    found = run(encoded(program), Call(number, architecture, known))
    really = outcome_of(execute(program, data_of(number, architecture, words)))
    assert found.outcomes == {really}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(programs(), min_size=1, max_size=3), SMALL, st.lists(SMALL, min_size=12, max_size=12)
)
def test_of_stacked_filters_the_most_severe_counts(
    stack: list[list[Instruction]], number: int, words: list[int]
) -> None:
    known = tuple((16 + 4 * index, word) for index, word in enumerate(words))
    together = combine([run(encoded(item), Call(number, 0, known)) for item in stack])
    each = [outcome_of(execute(item, data_of(number, 0, words))) for item in stack]
    severe = min(each, key=lambda item: SEVERITY[item.action])
    assert {item.action for item in together.outcomes} == {severe.action}


def test_the_order_of_severity_is_the_kernels() -> None:
    assert list(SEVERITY) == ["kill-process", "kill-thread", "trap", "errno", "notify", "trace",
                              "log", "allow"]  # fmt: skip


def test_a_call_and_its_arguments() -> None:
    """clone with a flag masked: allowed or refused by argument 0, and known once it is."""
    masked = [(0x20, 0, 0, 16), (0x54, 0, 0, 0x10000000), (0x15, 0, 1, 0), (6, 0, 0, 0x7FFF0000),
              (6, 0, 0, 0x00050001)]  # fmt: skip
    unknown = run(encoded(masked), Call(56, 0))
    assert unknown.outcomes == {Outcome("allow"), Outcome("errno", 1)}
    flagged = run(encoded(masked), Call(56, 0, ((16, 0x10000011),)))
    assert flagged.outcomes == {Outcome("errno", 1)}
    assert run(encoded(masked), Call(56, 0, ((16, 17),))).outcomes == {Outcome("allow")}


def test_plain_filters() -> None:
    assert run(encoded(refusing(165)), Call(165, 0)).outcomes == {Outcome("errno", 1)}
    assert run(encoded(refusing(165)), Call(166, 0)).outcomes == {Outcome("allow")}
    assert run(encoded(native_refusing(1, 2)), Call(3, 99)).outcomes == {Outcome("errno", 1)}


@pytest.mark.parametrize(
    "program",
    [b"", b"1234567", bytes(8 * 5000), encoded([(0x20, 0, 0, 0)]), encoded([(0x05, 0, 0, 900)]),
     encoded([(0x04 | 0xF0, 0, 0, 0), (6, 0, 0, 0)])],
    ids=["empty", "odd", "long", "no return", "jump beyond", "unknown operation"],
)  # fmt: skip
def test_what_is_no_program_is_the_one_error(program: bytes) -> None:
    with pytest.raises(InputError):
        run(program, Call(0, 0))


@settings(max_examples=200, deadline=2000, derandomize=True)
@given(st.binary(min_size=8, max_size=160).map(lambda data: data[: len(data) // 8 * 8]))
def test_random_bytes_end_in_an_answer_or_the_one_error(data: bytes) -> None:
    with contextlib.suppress(InputError):
        assert run(data, Call(1, 2)).outcomes


def test_a_program_with_too_many_ways_is_said_to_allow_anything() -> None:
    """Erring towards open: what sixteen remembered bits can be would take an hour to follow."""
    program: list[Instruction] = []
    for index in range(16):
        program += [
            (0x00, 0, 0, index),
            (0x02, 0, 0, index),
            (0x20, 0, 0, 16),
            (0x45, 1, 0, 1 << index),
            (0x05, 0, 0, 2),
            (0x00, 0, 0, 99),
            (0x02, 0, 0, index),
        ]
    program.append((6, 0, 0, 0x00050001))
    found = run(encoded(program), Call(1, 0))
    assert {item.action for item in found.outcomes} == set(SEVERITY)
