"""Every system call of the running kernel: whether the filters let it through.

Nothing is called: the oracle asks the kernel's filters and calls each off (`oracle`). Whether the
kernel has the call at all is known from a child of ours outside (`table`).
"""

from __future__ import annotations

from ringfence.collect.seccomp.bpf import Call
from ringfence.collect.seccomp.question import SIGCHLD, parse
from ringfence.collect.seccomp.tables import AUDIT_ARCH, native, native_calls, native_names
from ringfence.collect.seccomp.verdicts import words
from ringfence.knowledge.loader import load
from ringfence.knowledge.questions import call_questions
from ringfence.probe.abi import MAY_PASS, actions, possible
from ringfence.probe.definition import (
    Inside,
    Outcome,
    Probe,
    Seen,
    closed,
    opened,
    undecided,
    unsupported,
)
from ringfence.probe.oracle import EXEMPT, Verdict
from ringfence.probe.passing import may_pass, passing

GROUP = "system calls"
TECHNIQUE = "T1106"
USUAL = (-1,) * 6
PLAUSIBLE: dict[str, tuple[tuple[int, ...], ...]] = {
    "clone": ((SIGCHLD, 0, 0, 0, 0, 0), (0x3D0F00, 0, 0, 0, 0, 0)),
    "socket": tuple((family, kind, 0, 0, 0, 0) for family in (1, 2, 10, 16) for kind in (1, 2, 3)),
    "socketpair": ((1, 1, 0, 0, 0, 0), (1, 2, 0, 0, 0, 0)),
    "personality": ((0,) * 6, (0xFFFFFFFF, 0, 0, 0, 0, 0), (8, 0, 0, 0, 0, 0)),
    "ioctl": tuple((0, command, 0, 0, 0, 0) for command in
                   (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x5452)),
    "prctl": tuple((option, 0, 0, 0, 0, 0) for option in (*range(64), 0x53564D41)),
}  # fmt: skip
"""Arguments of ordinary programs, for filters that look at them."""


def _number(name: str) -> int:
    """Of a call, also of one without a name of ours (`call-470`)."""
    known = EXEMPT | native_calls()
    return known[name] if name in known else int(name.removeprefix("call-"))


def answers(inside: Inside, name: str) -> Verdict:
    """What the filters say to a call: passes if some ordinary arguments do."""
    number = _number(name)
    first = inside.passes(number, *USUAL)
    for values in ((0,) * 6, *PLAUSIBLE.get(name, ())):
        if first.passes:
            break
        other = inside.passes(number, *values)
        first = other if other.passes else first
    return first


def _by_argument(
    inside: Inside, number: int, fixed: tuple[tuple[int, int], ...], refused: Verdict
) -> Outcome:
    """What becomes of a call whose ordinary arguments are refused: closed where every argument is,
    open where the filters name some that pass."""
    programs = inside.view.programs
    if programs is None:
        return undecided(f"{refused.words}, and its filters could not be read")
    if not programs or not may_pass(programs, number, fixed):
        return _in_other_abis(inside, number, fixed, refused)
    found = passing(programs, number, fixed)
    if found is None or not inside.passes(number, *found).passes:
        return undecided(f"{refused.words}, by an argument")
    return opened(f"with the arguments {', '.join(f'{value:#x}' for value in found)}")


def _in_other_abis(
    inside: Inside, number: int, fixed: tuple[tuple[int, int], ...], refused: Verdict
) -> Outcome:
    """What becomes of a call that is refused whatever its arguments: they may be let through by
    another process that is asked, or in another ABI of the kernel's."""
    programs = inside.view.programs or ()
    name = native_names().get(number, "")
    given = dict(fixed)
    for fill in (0, -1):
        values = tuple(given.get(index, fill) for index in range(6))
        for abi, verdict in inside.oracle.elsewhere(name, values):
            if verdict.passes:
                return opened(f"as {abi.name}; {refused.words} as {native()}")
    if not programs:
        return closed(refused.words)
    native_call = Call(number, AUDIT_ARCH[native()], words(fixed))
    if "notify" in actions(programs, native_call):
        return undecided("the filter asks another process, which was not asked here")
    for abi in inside.oracle.abis:
        if any(MAY_PASS & found for found in possible(programs, abi, name, fixed)):
            return undecided(f"{refused.words}, and may pass as {abi.name} by an argument")
    return closed(refused.words)


def probe(name: str) -> Probe:
    """The probe of one call."""

    def attempt(inside: Inside) -> Outcome:
        """Only what the filters say is asked; the call is not made."""
        verdict = answers(inside, name)
        return opened() if verdict.passes else _by_argument(inside, _number(name), (), verdict)

    condition = (f"syscall:{name}",)
    return Probe(f"call.{name}", GROUP, f"{name} passes the filters", TECHNIQUE, attempt,
                 condition, condition)  # fmt: skip


def _question(text: str) -> Probe:
    question = parse(text)

    def attempt(inside: Inside) -> Outcome:
        """Only what the filters say is asked; the call is not made."""
        if question.call not in native_calls():
            return unsupported("this architecture has no such call")
        refused: Verdict | None = None
        for limits in question.tries:
            fixed = dict(limits)
            for fill in (-1 & 0xFFFFFFFF, 0, 1, 2):
                values = [fixed.get(index, fill) for index in range(6)]
                verdict = inside.passes(question.call, *values)
                if verdict.passes:
                    return opened()
                refused = refused or verdict
        outcomes = [_by_argument(inside, native_calls()[question.call], limits, refused)
                    for limits in question.tries if refused is not None]  # fmt: skip
        order = (Seen.OPEN, Seen.UNSUPPORTED, Seen.CLOSED)
        return min(outcomes, key=lambda one: order.index(one.seen))

    condition = (f"syscall:{text}",)
    return Probe(f"call.{text}", GROUP, f"{text} passes the filters", TECHNIQUE, attempt,
                 condition, condition)  # fmt: skip


PROBES = (
    *(probe(name) for name in native_calls()),
    *(_question(text) for text in call_questions(load()) if "[" in text),
)
