"""From filter programs to verdicts: every call of the table, and every question."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.collect.seccomp.bpf import (
    ARGUMENTS,
    SEVERITY,
    Call,
    Outcome,
    Outcomes,
    combine,
    run,
)
from ringfence.collect.seccomp.question import Question, parse
from ringfence.collect.seccomp.tables import AUDIT_ARCH, FOREIGN, X32_BIT, calls_of, native
from ringfence.model.process import CallVerdict

PROBE_OF_FOREIGN = ("getpid", "execve", "openat")
"""Calls whose passing shows that an architecture is let through at all."""

NO_SUCH_CALL = CallVerdict(("errno",), 38)


def table(programs: Sequence[bytes]) -> dict[str, CallVerdict]:
    """One verdict for each call of the native table."""
    arch = AUDIT_ARCH[native()]
    return {
        name: verdict(_stacked(programs, Call(number, arch)))
        for name, number in calls_of(native()).items()
    }


def answers(programs: Sequence[bytes], questions: Sequence[str]) -> dict[str, CallVerdict]:
    """One verdict for each question, over the native and every foreign architecture.

    A call that is refused natively but passes as i386 or x32 is open to an attacker, who writes
    the instruction himself; so the outcomes are united.
    """
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


def _answer(programs: Sequence[bytes], question: Question) -> CallVerdict:
    outcomes: set[Outcome] = set()
    arguments: set[int] = set()
    asked = False
    for name in (native(), *FOREIGN.get(native(), ())):
        number = calls_of(name).get(question.call)
        if number is None:
            continue
        asked = True
        for fixed in question.tries:
            result = _stacked(programs, Call(number, AUDIT_ARCH[name], words(fixed)))
            if name == native() or _allows(result):
                outcomes |= result.outcomes
                arguments |= result.arguments
    if not asked:
        return NO_SUCH_CALL
    return verdict(Outcomes(frozenset(outcomes), frozenset(arguments)))


def words(fixed: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Fixed arguments as 32-bit words by offset in seccomp_data (little endian)."""
    made = []
    for index, value in fixed:
        at = ARGUMENTS + 8 * index
        made += [(at, value & 0xFFFFFFFF), (at + 4, value >> 32 & 0xFFFFFFFF)]
    return tuple(made)


def _stacked(programs: Sequence[bytes], call: Call) -> Outcomes:
    return combine([run(program, call) for program in programs])


def _allows(result: Outcomes) -> bool:
    return any(item.action in ("allow", "log") for item in result.outcomes)


def _passes(programs: Sequence[bytes], architecture: str, call: str) -> bool:
    number = calls_of(architecture)[call]
    return _allows(_stacked(programs, Call(number, AUDIT_ARCH[architecture])))
