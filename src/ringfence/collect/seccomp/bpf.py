"""An interpreter of seccomp's classic BPF programs that does not need to know the arguments.

Number and architecture of the call are concrete; each 32-bit half of an argument is concrete or
unknown. Where an unknown word decides a jump, both ways are followed, and what the jump says of
the word is remembered: after a taken JEQ it is that value, after one not taken it is not. So the
result is the set of all outcomes that some choice of arguments can get.

Instruction set: Documentation/networking/filter.rst and include/uapi/linux/filter.h; semantics
of stacked filters: Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import functools
import struct

import msgspec

from ringfence.errors import InputError

Instruction = tuple[int, int, int, int]
"""code, jt, jf, k"""

MOST_STATES = 20_000
"""States explored for one call; beyond that every outcome is reported as possible."""

ARGUMENTS = 16
"""Offset of the first argument in struct seccomp_data {nr, arch, instruction_pointer, args[6]}."""

_MASK = 0xFFFFFFFF
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)

ACTIONS = {
    0x80000000: "kill-process",
    0x00000000: "kill-thread",
    0x00030000: "trap",
    0x00050000: "errno",
    0x7FC00000: "notify",
    0x7FF00000: "trace",
    0x7FFC0000: "log",
    0x7FFF0000: "allow",
}
"""SECCOMP_RET_* of include/uapi/linux/seccomp.h, most severe first, as the kernel orders them."""

SEVERITY = {name: rank for rank, name in enumerate(ACTIONS.values())}


class Outcome(msgspec.Struct, frozen=True):
    """What one call gets: an action of ACTIONS, and the errno for `errno`."""

    action: str
    errno: int | None = None


class Outcomes(msgspec.Struct, frozen=True):
    """Every outcome that some arguments can get, and the arguments (0 to 5) that decided."""

    outcomes: frozenset[Outcome]
    arguments: frozenset[int]


class Call(msgspec.Struct, frozen=True):
    """A system call as a filter sees it: `words` maps an offset of seccomp_data to its value."""

    number: int
    architecture: int
    words: tuple[tuple[int, int], ...] = ()


class _Word(msgspec.Struct, frozen=True):
    """A value that is a known number, or an unknown word of the data as it stands, or neither."""

    value: int | None = None
    offset: int | None = None


class _State(msgspec.Struct, frozen=True):
    """Where the program is, and what it knows."""

    at: int
    a: _Word
    x: _Word
    memory: tuple[tuple[int, _Word], ...]
    known: tuple[tuple[int, int], ...]
    excluded: frozenset[tuple[int, int]]


_ZERO = _Word(0)
_UNKNOWN = _Word()


@functools.lru_cache(maxsize=256)
def parse(program: bytes) -> tuple[Instruction, ...]:
    """The instructions of a program, eight bytes each. Raises InputError when it is none."""
    if not program or len(program) % 8 or len(program) > 4096 * 8:
        raise InputError(f"{len(program)} bytes are no BPF program", where="seccomp filter")
    return tuple(struct.iter_unpack("=HBBI", program))


def outcome_of(value: int) -> Outcome:
    """The outcome of a filter's return value; unknown actions kill, as in the kernel."""
    action = ACTIONS.get(value & 0xFFFF0000, "kill-process")
    return Outcome(action, value & 0xFFFF if action == "errno" else None)


@functools.lru_cache(maxsize=65536)
def run(program: bytes, call: Call) -> Outcomes:
    """Every outcome of one filter for `call`. Raises InputError on a malformed program."""
    instructions = parse(program)
    start = _State(0, _ZERO, _ZERO, (), call.words, frozenset())
    stack, seen = [start], {start}
    outcomes: set[Outcome] = set()
    arguments: set[int] = set()
    while stack:
        state = stack.pop()
        if len(seen) > MOST_STATES:
            return Outcomes(frozenset(Outcome(name) for name in SEVERITY), frozenset(range(6)))
        for following in _step(instructions, state, call, outcomes, arguments):
            if following not in seen:
                seen.add(following)
                stack.append(following)
    return Outcomes(frozenset(outcomes), frozenset(arguments))


def combine(results: list[Outcomes]) -> Outcomes:
    """What stacked filters do together: for each data the most severe action counts.

    Filters are taken as independent, so an outcome may be listed that no arguments really get.
    """
    if not results:
        return Outcomes(frozenset({Outcome("allow")}), frozenset())
    together = results[0].outcomes
    for result in results[1:]:
        together = frozenset(
            min(first, second, key=lambda item: SEVERITY[item.action])
            for first in together
            for second in result.outcomes
        )
    arguments = frozenset(index for result in results for index in result.arguments)
    return Outcomes(together, arguments)


def _step(
    program: tuple[Instruction, ...],
    state: _State,
    call: Call,
    outcomes: set[Outcome],
    arguments: set[int],
) -> list[_State]:
    """One instruction: the states after it, or an outcome."""
    if state.at >= len(program):
        raise InputError("the program runs past its end", where="seccomp filter")
    code, jt, jf, k = program[state.at]
    kind = code & 0x07
    if kind == _RET:
        value = _Word(k) if code & 0x18 == 0 else state.a
        if value.value is None:
            outcomes.update(Outcome(name) for name in SEVERITY)
        else:
            outcomes.add(outcome_of(value.value))
        return []
    if kind == _JMP:
        return _jump(state, code, jt, jf, k, arguments)
    following = state.at + 1
    if kind == _LD:
        return [_replace(state, at=following, a=_load(state, code, k, call))]
    if kind == _LDX:
        return [_replace(state, at=following, x=_load(state, code, k, call))]
    if kind in (_ST, _STX):
        memory = dict(state.memory)
        memory[k & 15] = state.a if kind == _ST else state.x
        return [_replace(state, at=following, memory=tuple(sorted(memory.items())))]
    if kind == _ALU:
        return [_replace(state, at=following, a=_compute(code, state.a, _operand(state, code, k)))]
    if code & 0x80:
        return [_replace(state, at=following, a=state.x)]
    return [_replace(state, at=following, x=state.a)]


def _replace(state: _State, **changes: object) -> _State:
    return msgspec.structs.replace(state, **changes)


def _load(state: _State, code: int, k: int, call: Call) -> _Word:
    mode = code & 0xE0
    if mode == 0x00:
        return _Word(k)
    if mode == 0x60:
        return dict(state.memory).get(k & 15, _ZERO)
    if mode == 0x80:
        return _Word(64)
    if k == 0:
        return _Word(call.number)
    if k == 4:
        return _Word(call.architecture)
    known = dict(state.known).get(k)
    return _Word(known) if known is not None else _Word(offset=k)


def _operand(state: _State, code: int, k: int) -> _Word:
    return state.x if code & 0x08 else _Word(k)


def _compute(code: int, a: _Word, operand: _Word) -> _Word:
    """A op operand in 32 bits; unknown as soon as one of the two is."""
    if a.value is None or (operand.value is None and code & 0xF0 != 0x80):
        return _UNKNOWN
    left, right = a.value, operand.value or 0
    operation = code & 0xF0
    if operation in (0x30, 0x90):
        if right == 0:
            return _ZERO
        return _Word(left // right if operation == 0x30 else left % right)
    results = {
        0x00: left + right,
        0x10: left - right,
        0x20: left * right,
        0x40: left | right,
        0x50: left & right,
        0x60: left << right if right < 32 else 0,
        0x70: left >> right if right < 32 else 0,
        0x80: -left,
        0xA0: left ^ right,
    }
    if operation not in results:
        raise InputError(f"unknown operation {code:#x}", where="seccomp filter")
    return _Word(results[operation] & _MASK)


def _jump(state: _State, code: int, jt: int, jf: int, k: int, arguments: set[int]) -> list[_State]:
    operation = code & 0xF0
    if operation == 0x00:
        return [_replace(state, at=state.at + 1 + k)]
    operand = _operand(state, code, k)
    taken, other = state.at + 1 + jt, state.at + 1 + jf
    if state.a.value is not None and operand.value is not None:
        return [
            _replace(state, at=taken if _holds(operation, state.a.value, operand.value) else other)
        ]
    offset = state.a.offset
    if offset is not None and offset >= ARGUMENTS:
        arguments.add((offset - ARGUMENTS) // 8)
    if jt == jf:
        return [_replace(state, at=taken)]
    if operation != 0x10 or offset is None or operand.value is None:
        return [_replace(state, at=taken), _replace(state, at=other)]
    return _equality(state, offset, operand.value, taken, other)


def _equality(state: _State, offset: int, value: int, taken: int, other: int) -> list[_State]:
    """Both sides of JEQ on an unknown word, each with what it now knows of the word."""
    differs = _replace(state, at=other, excluded=state.excluded | {(offset, value)})
    if (offset, value) in state.excluded:
        return [differs]
    known = tuple(sorted({**dict(state.known), offset: value}.items()))
    return [_replace(state, at=taken, a=_Word(value), known=known), differs]


def _holds(operation: int, left: int, right: int) -> bool:
    if operation == 0x10:
        return left == right
    if operation == 0x20:
        return left > right
    if operation == 0x30:
        return left >= right
    if operation == 0x40:
        return bool(left & right)
    raise InputError(f"unknown jump {operation:#x}", where="seccomp filter")
