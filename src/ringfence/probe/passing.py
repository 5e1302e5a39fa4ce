"""Arguments with which a call passes seccomp filters that look at them.

Each word of an argument is tried with the values that the filters compare it with, and with those
beside them. That finds what a filter's author had in mind, and proves nothing where it finds none:
whether every argument is refused, `bpf.run` tells. Pure.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ringfence.collect.seccomp.bpf import ARGUMENTS, Call, Instruction, combine, parse, run
from ringfence.collect.seccomp.tables import AUDIT_ARCH, native, native_names
from ringfence.collect.seccomp.verdicts import native_words

WORD = 0xFFFFFFFF
ALWAYS = (0, 1, WORD)
MOST_STATES, MOST_TRIES = 20_000, 600
"""Of a program, and of the arguments in each of two orders."""
LOAD, AND, JUMP, RETURN = 0x20, 0x54, 0x05, 0x06
EQUAL, GREATER, NOT_LESS, ANY_BIT = 0x15, 0x25, 0x35, 0x45
PASSES = frozenset({"allow", "log"})


def may_pass(
    programs: tuple[bytes, ...], number: int, fixed: tuple[tuple[int, int], ...] = ()
) -> bool:
    """Whether some arguments may pass; `fixed` are those of an index and a value that are given,
    as far as the kernel looks at them (`native_words`).
    Where it says no, every argument is refused."""
    return _may(programs, Call(number, AUDIT_ARCH[native()], _words(number, fixed)))


@functools.lru_cache(maxsize=1024)
def passing(
    programs: tuple[bytes, ...], number: int, fixed: tuple[tuple[int, int], ...] = ()
) -> tuple[int, ...] | None:
    """Six arguments that every filter lets through; None where none were found."""
    given = dict(_words(number, fixed))
    wanted: dict[int, dict[int, None]] = {}
    for program in programs:
        for offset, value in _compared(parse(program), number):
            wanted.setdefault(offset, {})[value] = None
    free = [offset for offset in sorted(wanted) if offset not in given]
    choices = [_ordered(wanted[offset]) for offset in free]
    orders = itertools.product(*choices), _diagonally(choices)
    tries = (itertools.islice(order, MOST_TRIES) for order in orders)
    for values in dict.fromkeys(itertools.chain.from_iterable(tries)):
        known = {**dict.fromkeys(range(ARGUMENTS, ARGUMENTS + 48, 4), 0), **given,
                 **dict(zip(free, values, strict=True))}  # fmt: skip
        if _may(programs, Call(number, AUDIT_ARCH[native()], tuple(sorted(known.items())))):
            return tuple(known[at] | known[at + 4] << 32
                         for at in range(ARGUMENTS, ARGUMENTS + 48, 8))  # fmt: skip
    return None


def _words(number: int, fixed: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    return native_words(native_names().get(number, ""), fixed)


def _ordered(wanted: Iterable[int]) -> tuple[int, ...]:
    """What may pass a list of the only values that pass comes first, and next to it what may pass
    a list of those that do not."""
    first, *others = wanted
    return tuple(dict.fromkeys((first, *ALWAYS, *others)))


def _diagonally(choices: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """One value of each, those near the beginnings first: a product in order keeps to the first
    value of the first one as long as another one has many."""
    for total in range(sum(len(each) - 1 for each in choices) + 1):
        yield from _away(choices, total)


def _away(choices: Sequence[tuple[int, ...]], total: int) -> Iterator[tuple[int, ...]]:
    """Those whose places, counted from 0, sum up to `total`."""
    if not choices:
        yield ()
        return
    first, others = choices[0], choices[1:]
    least = max(total - sum(len(each) - 1 for each in others), 0)
    for place in range(least, min(total, len(first) - 1) + 1):
        for values in _away(others, total - place):
            yield (first[place], *values)


def _may(programs: tuple[bytes, ...], call: Call) -> bool:
    found = combine([run(program, call) for program in programs])
    return any(outcome.action in PASSES for outcome in found.outcomes)


class _At(msgspec.Struct, frozen=True):
    """A place in a program, and what is in the accumulator: a number, or the word of an argument
    at this offset under a mask."""

    at: int
    value: int | None = None
    offset: int = 0
    mask: int = WORD


def _compared(program: tuple[Instruction, ...], number: int) -> Iterator[tuple[int, int]]:
    """Offset and value of each comparison that a call of this number may come to, and of values
    beside it that decide it otherwise."""
    data = {0: number, 4: AUDIT_ARCH[native()]}
    stack, seen = [_At(0)], {_At(0)}
    while stack and len(seen) < MOST_STATES:
        state = stack.pop()
        if state.at >= len(program) or program[state.at][0] & 7 == RETURN:
            continue
        code, _, _, k = program[state.at]
        if code in (EQUAL, GREATER, NOT_LESS, ANY_BIT) and state.offset:
            yield from ((state.offset, value) for value in _deciding(code, k, state.mask))
        for following in _after(state, program[state.at], data):
            if following not in seen:
                seen.add(following)
                stack.append(following)


def _deciding(code: int, k: int, mask: int) -> Iterator[int]:
    if code == ANY_BIT:
        yield from (k & mask, ~k & WORD)
        return
    yield k
    yield (k | ~mask) & WORD
    yield from (max(k - 1, 0), min(k + 1, WORD))


def _after(state: _At, instruction: Instruction, data: dict[int, int]) -> list[_At]:
    code, jt, jf, k = instruction
    at = state.at + 1
    if code == LOAD:
        return [_At(at, data[k]) if k in data else _At(at, offset=k)]
    if code == AND:
        value = None if state.value is None else state.value & k
        return [_At(at, value, state.offset, state.mask & k)]
    if code == JUMP:
        return [msgspec.structs.replace(state, at=at + k)]
    if code & 7 == JUMP:
        ways = [at + jt, at + jf]
        if state.value is not None and code in (EQUAL, GREATER, NOT_LESS, ANY_BIT):
            holds = {EQUAL: state.value == k, GREATER: state.value > k,
                     NOT_LESS: state.value >= k, ANY_BIT: bool(state.value & k)}[code]  # fmt: skip
            ways = ways[:1] if holds else ways[1:]
        return [msgspec.structs.replace(state, at=way) for way in ways]
    if code & 7 in (0, 4) or code == 0x87:
        return [_At(at)]  # something else is in the accumulator now
    return [msgspec.structs.replace(state, at=at)]
