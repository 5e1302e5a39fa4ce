"""seccomp profiles in JSON, in the OCI runtime's form.

Form: https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp. Rules of
one call are alternatives; where none applies the default action does. What Docker's own profiles
have besides (`includes`, `excludes`, `archMap`) means nothing to a runtime: Docker resolves it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ringfence.collect.container.gojson import folded
from ringfence.collect.seccomp.bpf import Outcome, Outcomes
from ringfence.collect.seccomp.question import Question, narrow, parse
from ringfence.collect.seccomp.tables import FOREIGN, MULTIPLEXED, native, native_calls
from ringfence.collect.seccomp.verdicts import NO_SUCH_CALL, verdict
from ringfence.errors import InputError
from ringfence.model.evidence import Evidence
from ringfence.model.process import CallVerdict, Seccomp

ACTIONS = {
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_LOG": "log",
    "SCMP_ACT_TRACE": "trace",
    "SCMP_ACT_NOTIFY": "notify",
    "SCMP_ACT_ERRNO": "errno",
    "SCMP_ACT_TRAP": "trap",
    "SCMP_ACT_KILL": "kill-thread",
    "SCMP_ACT_KILL_THREAD": "kill-thread",
    "SCMP_ACT_KILL_PROCESS": "kill-process",
}
SCMP_ARCH = {"i386": "SCMP_ARCH_X86"}
EPERM = 1
_64, WORD = (1 << 64) - 1, (1 << 32) - 1


class Argument(msgspec.Struct, frozen=True):
    """One condition of a rule on an argument."""

    index: int
    value: int
    op: str
    valueTwo: int = 0  # noqa: N815 - the specification's name


class Rule(msgspec.Struct, frozen=True):
    """An action for some calls, under conditions on their arguments."""

    names: tuple[str, ...]
    action: str
    errnoRet: int | None = None  # noqa: N815 - the specification's name
    args: tuple[Argument, ...] | None = ()


class Profile(msgspec.Struct, frozen=True):
    """The parts of a profile that decide about calls."""

    defaultAction: str  # noqa: N815 - the specification's name
    defaultErrnoRet: int | None = None  # noqa: N815 - the specification's name
    syscalls: tuple[Rule, ...] | None = ()
    architectures: tuple[str, ...] | None = ()

    def foreign(self) -> tuple[str, ...]:
        """Other architectures of this machine whose calls the profile decides about, too."""
        named = self.architectures or ()
        return tuple(name for name in FOREIGN.get(native(), ()) if SCMP_ARCH[name] in named)


_NAMES = {
    name.lower(): name for kind in (Profile, Rule, Argument) for name in kind.__struct_fields__
}


def _named(value: object) -> Any:
    """The same document with the specification's names of fields, which readers take in any case
    (`gojson`)."""
    if isinstance(value, dict):
        return {_NAMES.get(folded(str(key)), key): _named(item) for key, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, list) else value


def from_profile(document: dict[str, Any], questions: Sequence[str], evidence: Evidence) -> Seccomp:
    """What a profile does with every call and question. Raises InputError that names the place of
    what makes no sense."""
    try:
        profile = msgspec.convert(_named(document), Profile)
    except msgspec.ValidationError as error:
        raise InputError(f"seccomp profile: {error}", where=evidence.source) from None
    by_name = _rules(profile, evidence.source)
    default = _outcome(profile.defaultAction, profile.defaultErrnoRet, evidence.source)
    calls = {name: _verdict(by_name.get(name, ()), {}, default) for name in native_calls()}
    return Seccomp(
        mode=2,
        filters=1,
        evidence=evidence,
        calls=calls,
        asked={text: _answer(text, by_name, default, profile.foreign()) for text in questions},
        foreign=profile.foreign(),
    )


Decided = tuple[Outcome, tuple[Argument, ...]]


def _rules(profile: Profile, source: str) -> dict[str, list[Decided]]:
    found: dict[str, list[Decided]] = {}
    for rule in profile.syscalls or ():
        outcome = _outcome(rule.action, rule.errnoRet, source)
        arguments = rule.args or ()
        for argument in arguments:
            if argument.op not in _COMPARE or not 0 <= argument.index <= 5:
                problem = f"argument {argument.index} with {argument.op}"
                raise InputError(f"seccomp profile: {problem} makes no sense", where=source)
        for name in dict.fromkeys(rule.names):
            found.setdefault(name, []).extend((outcome, part) for part in _alternatives(arguments))
    return found


def _alternatives(arguments: tuple[Argument, ...]) -> list[tuple[Argument, ...]]:
    """What a rule asks of arguments: all at once, or where it names one of them twice, any
    (runc's libcontainer/seccomp, and crun after it)."""
    twice = len({item.index for item in arguments}) < len(arguments)
    return [(item,) for item in arguments] if twice else [arguments]


def _outcome(action: str, number: int | None, source: str) -> Outcome:
    if action not in ACTIONS:
        raise InputError(f"seccomp profile: unknown action {action!r}", where=source)
    name = ACTIONS[action]
    if name != "errno":
        return Outcome(name)
    return Outcome(name, EPERM if number is None else number)


def _answer(
    text: str,
    by_name: dict[str, list[Decided]],
    default: Outcome,
    foreign: tuple[str, ...],
) -> CallVerdict:
    question = parse(text)
    found = _native(question, by_name, default)
    if {"allow", "log"}.intersection(found.actions):
        return found
    through = (name for name in foreign if _as_foreign(question, name, by_name, default))
    return msgspec.structs.replace(found, through=tuple(through))


def _as_foreign(
    question: Question,
    architecture: str,
    by_name: dict[str, list[Decided]],
    default: Outcome,
) -> bool:
    """Whether a call that is refused by its name passes through the one that multiplexes it."""
    carrier, selector = MULTIPLEXED[architecture].get(question.call, ("", 0))
    if not carrier:
        return False
    found = _outcomes(by_name.get(carrier, ()), {0: selector}, default)
    return any(item.action in ("allow", "log") for item in found.outcomes)


def _native(question: Question, by_name: dict[str, list[Decided]], default: Outcome) -> CallVerdict:
    if question.call not in native_calls():
        return NO_SUCH_CALL
    rules = by_name.get(question.call, ())
    halves = narrow(question.call)
    results = [_outcomes(rules, dict(fixed), default, halves) for fixed in question.tries]
    return verdict(
        Outcomes(
            frozenset(item for result in results for item in result.outcomes),
            frozenset(index for result in results for index in result.arguments),
        )
    )


def _verdict(rules: Sequence[Decided], fixed: dict[int, int], default: Outcome) -> CallVerdict:
    return verdict(_outcomes(rules, fixed, default))


def _outcomes(
    rules: Sequence[Decided],
    fixed: dict[int, int],
    default: Outcome,
    halves: tuple[int, ...] = (),
) -> Outcomes:
    """Every outcome that some choice of the arguments that are not fixed can get, and of the upper
    32 bits of the arguments `halves`."""
    outcomes: set[Outcome] = set()
    arguments: set[int] = set()
    certain = False
    for outcome, conditions in rules:
        held = {
            item: _held(item, fixed[item.index], item.index in halves)
            if item.index in fixed else {True, False}
            for item in conditions
        }  # fmt: skip
        if {False} in held.values():
            continue
        outcomes.add(outcome)
        chosen = [item.index for item, answers in held.items() if len(answers) > 1]
        arguments.update(chosen)
        certain = certain or not chosen
    if not certain:
        outcomes.add(default)
    return Outcomes(frozenset(outcomes), frozenset(arguments))


def _held(item: Argument, value: int, half: bool) -> set[bool]:
    """Whether a condition holds for an argument: both, where that is a matter of the upper half,
    which whoever calls chooses if the kernel takes the lower one alone. Beside and at the values
    of the condition it changes, nowhere else."""
    if not half:
        return {_COMPARE[item.op](value & _64, item)}
    uppers = {0, WORD}
    for named in (item.value, item.valueTwo):
        upper = named >> 32 & WORD
        uppers |= {upper, upper ^ WORD, max(upper - 1, 0), min(upper + 1, WORD)}
    return {_COMPARE[item.op](value & WORD | upper << 32, item) for upper in uppers}


_COMPARE: dict[str, Callable[[int, Argument], bool]] = {
    "SCMP_CMP_EQ": lambda value, item: value == item.value & _64,
    "SCMP_CMP_NE": lambda value, item: value != item.value & _64,
    "SCMP_CMP_LT": lambda value, item: value < item.value & _64,
    "SCMP_CMP_LE": lambda value, item: value <= item.value & _64,
    "SCMP_CMP_GE": lambda value, item: value >= item.value & _64,
    "SCMP_CMP_GT": lambda value, item: value > item.value & _64,
    "SCMP_CMP_MASKED_EQ": lambda value, item: value & item.value & _64 == item.valueTwo & _64,
}
