"""From filter programs to verdicts: every call of the table, and every question."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ringfence.collect.seccomp.bpf import (
    ARGUMENTS,
    SEVERITY,
    Call,
    Outcomes,
    combine,
    run,
)
from ringfence.collect.seccomp.question import Question, narrow, parse
from ringfence.collect.seccomp.tables import (
    AUDIT_ARCH,
    FOREIGN,
    MULTIPLEXED,
    X32_BIT,
    calls_of,
    native,
)
from ringfence.model.process import CallVerdict

PROBE_OF_FOREIGN = ("getpid", "execve", "openat")
"""Calls whose passing shows that an architecture is let through at all."""

_PASSES = frozenset({"allow", "log"})
NO_SUCH_CALL = CallVerdict(("errno",), 38)


def table(programs: Sequence[bytes]) -> dict[str, CallVerdict]:
    """One verdict for each call of the native table."""
    arch = AUDIT_ARCH[native()]
    return {
        name: verdict(_stacked(programs, Call(number, arch)))
        for name, number in calls_of(native()).items()
    }


def answers(programs: Sequence[bytes], questions: Sequence[str]) -> dict[str, CallVerdict]:
    """One verdict for each question, with the foreign architectures that get round a refusal."""
    return {text: _answer(programs, parse(text)) for text in questions}


def foreign(programs: Sequence[bytes]) -> tuple[str, ...]:
    """Other architectures that the filters let through."""
    found = [
        name
        for name in FOREIGN.get(native(), ())
        if any(_passes(programs, name, call) for call in PROBE_OF_FOREIGN)
    ]
    if native() == "x86_64":
        numbers = [calls_of("x86_64")[call] | X32_BIT for call in PROBE_OF_FOREIGN]
        x32 = [Call(number, AUDIT_ARCH["x86_64"]) for number in numbers]
        if any(_allows(_stacked(programs, call)) for call in x32):
            found.append("x32")
    return tuple(found)


def verdict(result: Outcomes) -> CallVerdict:
    """A record's form of an interpreter's result, most permissive action first."""
    actions = sorted({item.action for item in result.outcomes}, key=lambda name: -SEVERITY[name])
    errnos = {item.errno for item in result.outcomes if item.action == "errno"}
    return CallVerdict(
        actions=tuple(actions),
        errno=errnos.pop() if len(errnos) == 1 else None,
        arguments=tuple(sorted(result.arguments)) if len(result.outcomes) > 1 else (),
    )


def weakest(verdicts: Sequence[CallVerdict]) -> CallVerdict:
    """What a call gets in the best of several threads, each with one of these verdicts.

    One that lets it through with any arguments decides; else each may give what the others do not.
    """
    for found in verdicts:
        if _PASSES.issuperset(found.actions):
            return found
    actions = {name for found in verdicts for name in found.actions}
    errnos = {found.errno for found in verdicts if "errno" in found.actions}
    return CallVerdict(
        actions=tuple(sorted(actions, key=lambda name: -SEVERITY[name])),
        errno=errnos.pop() if len(errnos) == 1 else None,
        arguments=tuple(sorted({index for found in verdicts for index in found.arguments})),
        through=tuple(dict.fromkeys(name for found in verdicts for name in found.through)),
    )


def _answer(programs: Sequence[bytes], question: Question) -> CallVerdict:
    number = calls_of(native()).get(question.call)
    found = NO_SUCH_CALL if number is None else _native(programs, number, question)
    if _PASSES.intersection(found.actions):
        return found
    through = (name for name in FOREIGN.get(native(), ()) if _as_foreign(programs, name, question))
    return msgspec.structs.replace(found, through=tuple(through))


def _native(programs: Sequence[bytes], number: int, question: Question) -> CallVerdict:
    results = [
        _stacked(programs, Call(number, AUDIT_ARCH[native()], native_words(question.call, fixed)))
        for fixed in question.tries
    ]
    return verdict(
        Outcomes(
            frozenset(item for result in results for item in result.outcomes),
            frozenset(index for result in results for index in result.arguments),
        )
    )


def _as_foreign(programs: Sequence[bytes], architecture: str, question: Question) -> bool:
    """Whether the call passes as one of another architecture, by itself or multiplexed."""
    arch, calls = AUDIT_ARCH[architecture], calls_of(architecture)
    tries = []
    if question.call in calls:
        tries += [Call(calls[question.call], arch, words(fixed)) for fixed in question.tries]
    if question.call in MULTIPLEXED.get(architecture, {}):
        carrier, selector = MULTIPLEXED[architecture][question.call]
        tries.append(Call(calls[carrier], arch, words(((0, selector),))))
    return any(_allows(_stacked(programs, call)) for call in tries)


def words(fixed: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Fixed arguments as 32-bit words by offset in seccomp_data (little endian)."""
    made = []
    for index, value in fixed:
        at = ARGUMENTS + 8 * index
        made += [(at, value & 0xFFFFFFFF), (at + 4, value >> 32 & 0xFFFFFFFF)]
    return tuple(made)


def native_words(call: str, fixed: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """The same for a call of the native architecture: whoever calls chooses the upper halves of
    arguments that the kernel takes 32 bits of, and a filter that compares all 64 is passed by."""
    free = {ARGUMENTS + 8 * index + 4 for index in narrow(call)}
    return tuple(word for word in words(fixed) if word[0] not in free)


def _stacked(programs: Sequence[bytes], call: Call) -> Outcomes:
    return combine([run(program, call) for program in programs])


def _allows(result: Outcomes) -> bool:
    return any(item.action in _PASSES for item in result.outcomes)


def _passes(programs: Sequence[bytes], architecture: str, call: str) -> bool:
    number = calls_of(architecture)[call]
    return _allows(_stacked(programs, Call(number, AUDIT_ARCH[architecture])))
