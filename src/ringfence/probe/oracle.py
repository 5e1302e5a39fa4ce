"""What the kernel's seccomp filters say to a system call, without the call being made.

A process with one more filter on top, which answers SECCOMP_RET_TRACE to everything. Of all
filters' answers the kernel takes the strictest, and TRACE is less strict than any refusal and
stricter than ALLOW and LOG (seccomp(2)): so a call that is refused is refused as ever, and one
that would be let through stops before us and is called off. It is the kernel's own answer, to
these very arguments, and nothing happens.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial

import msgspec

from ringfence.collect.seccomp.bpf import Call
from ringfence.collect.seccomp.tables import AUDIT_ARCH, native, native_calls
from ringfence.collect.seccomp.verdicts import words
from ringfence.probe.abi import MAY_PASS, Abi, Form, actions, forms
from ringfence.probe.answered import RETURN, asks
from ringfence.probe.driven import Argument, Blocked, Driven, Killed
from ringfence.run import tracee
from ringfence.run.tracee import InjectionFailed

SET_MODE_FILTER = 1
PR_SET_NO_NEW_PRIVS = 38
RET_TRACE = 0x7FF00000
EXEMPT = {"uretprobe": 335, "uprobe": 336} if native() == "x86_64" else {}
"""No filter is asked about them, and they work from the kernel's own code alone
(kernel/seccomp.c, seccomp_uprobe_exception)."""


class Answer(StrEnum):
    """What a filter does with a call."""

    PASS = "pass"  # noqa: S105
    ERRNO = "errno"
    TRAP = "trap"
    KILL = "kill"
    ASK = "ask"
    """Another process is asked, which may let it through."""


class Verdict(msgspec.Struct, frozen=True):
    """An answer, with the errno of a refusal."""

    answer: Answer
    errno: int = 0

    @property
    def passes(self) -> bool:
        """Whether the call reaches the kernel."""
        return self.answer is Answer.PASS

    @property
    def words(self) -> str:
        """As a person reads it: `seccomp (EPERM)`."""
        if self.answer is Answer.ASK:
            return "seccomp (another process is asked)"
        if self.answer is Answer.ERRNO:
            return f"seccomp (errno {self.errno}, {os.strerror(self.errno).lower()})"
        return f"seccomp ({self.answer})"


class _Asked(Driven):
    """A child that stands before each call that would be made."""

    passed = False

    def _event(self, event: int) -> bool:
        if event == tracee.EVENT_SECCOMP:
            self.passed = True
            tracee.skip_call(self.pid)
        return False


def _called_as(abi: Abi, form: Form, child: Driven) -> int:
    return child.call_as(abi, form.number, *form.values)


class Oracle:
    """Asks the filters of a process, by way of its children. `programs` are its filters as they
    were read: a call that one of them hands to another process (USER_NOTIF) is not asked about,
    since that answer is stricter than ours, and the call would be made if it is let through.
    `abis` are those that the kernel offers beside its own."""

    def __init__(
        self, zygote: Driven, programs: tuple[bytes, ...] = (), abis: tuple[Abi, ...] = ()
    ) -> None:
        self._zygote = zygote
        self._programs = programs
        self._asking = any(asks(program) for program in programs)
        self.abis = abis
        self._child: _Asked | None = None

    def verdict(self, name: str | int, *arguments: Argument) -> Verdict:
        """The answer to one call. Raises InjectionFailed."""
        number = native_calls().get(name, -1) if isinstance(name, str) else name
        if number in EXEMPT.values():
            return Verdict(Answer.PASS)
        if self._handed_on(number, arguments):
            return Verdict(Answer.ASK)
        return self._answered(lambda child: child.call(name, *arguments))

    def elsewhere(
        self, name: str, arguments: tuple[Argument, ...]
    ) -> Iterator[tuple[Abi, Verdict]]:
        """The answers to the same call in other ABIs of the kernel's, where the filters as they
        were read do not refuse it. Raises InjectionFailed."""
        for abi in self.abis:
            for form in forms(abi, name, arguments):
                fixed = words(tuple(enumerate(form.values)))
                found = actions(self._programs, Call(form.number, abi.architecture, fixed))
                if "notify" in found:
                    yield abi, Verdict(Answer.ASK)
                elif MAY_PASS & found:
                    yield abi, self._answered(partial(_called_as, abi, form))

    def _answered(self, called: Callable[[_Asked], int]) -> Verdict:
        child = self._child or self._made()
        child.passed = False
        try:
            found = called(child)
        except Killed as killed:
            self.close()
            # Filters kill by this signal alone (seccomp(2)): another one was somebody's doing.
            if killed.signal != signal.SIGSYS:
                raise
            return Verdict(Answer.KILL)
        except Blocked:
            self.close()
            return Verdict(Answer.ASK)
        except InjectionFailed:
            self.close()
            raise
        if child.passed:
            return Verdict(Answer.PASS)
        if child.trapped:
            return Verdict(Answer.TRAP)
        if found >= 0:  # nobody refused it, and it did not stop before us
            return Verdict(Answer.ASK)
        return Verdict(Answer.ERRNO, -found)

    def _handed_on(self, number: int, arguments: tuple[Argument, ...]) -> bool:
        """Whether the filters may hand this call on; what a pointer points to they cannot see."""
        if not self._asking:
            return False
        fixed = ((index, value) for index, value in enumerate(arguments) if isinstance(value, int))
        call = Call(number, AUDIT_ARCH[native()], words(tuple(fixed)))
        return "notify" in actions(self._programs, call)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _made(self) -> _Asked:
        self._child = child = self._zygote.fork_as(_Asked)
        program = child.put(struct.pack("=HBBI", RETURN, 0, 0, RET_TRACE))
        description = struct.pack("=HxxxxxxQ", 1, program)
        child.manage("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        result = child.manage("seccomp", SET_MODE_FILTER, 0, description)
        if result < 0:
            self.close()
            raise InjectionFailed(f"no filter for asking: {os.strerror(-result).lower()}")
        return child
