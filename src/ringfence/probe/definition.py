"""What a probe is: one attempt, harmless, whose result means something.

A probe's `attempt` is a function of an `Inside`; its docstring is the safety argument.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from enum import StrEnum

import msgspec

from ringfence.collect.seccomp.question import narrow
from ringfence.collect.seccomp.tables import native_calls
from ringfence.probe.driven import Argument, Driven
from ringfence.probe.oracle import Oracle, Verdict
from ringfence.probe.passing import may_pass
from ringfence.probe.view import View


class Seen(StrEnum):
    """What an attempt showed. `unsupported`: there is nothing here that could be open or closed,
    or it could not be told which (its detail says so)."""

    OPEN = "open"
    CLOSED = "closed"
    UNSUPPORTED = "unsupported"


class Tried(msgspec.Struct, frozen=True):
    """A call that decided, as it was made, and its errno."""

    name: str
    arguments: tuple[Argument, ...]
    errno: int
    path: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """The result of an attempt. `capability` is what the call asks for, where it was refused."""

    seen: Seen
    detail: str = ""
    tried: Tried | None = None
    capability: str = ""
    layer: str = ""
    """Where the attempt itself knows what stopped it."""


ABSENT = frozenset({errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT,
                    errno.ESOCKTNOSUPPORT, errno.EOPNOTSUPP})  # fmt: skip
"""The kernel does not have it, if no filter says so in its place."""
ABSENCE = "kernel without the feature"
"""The layer that it is said to be stopped by then."""


NOT_KNOWN = "not known: "
"""How the detail begins of what could not be told."""


FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""There is no room at the moment, which closes nothing."""


class Inside:
    """Where an attempt is made: a child of its own, and what is known of the workload."""

    def __init__(self, child: Driven, oracle: Oracle, view: View) -> None:
        self.child = child
        self.oracle = oracle
        self.view = view
        self.last: Tried | None = None
        self.denied: dict[tuple[str, tuple[Argument, ...]], Verdict] = {}
        """What the filters were asked about by name and did not let through."""
        self.tried: set[str] = set()
        """The names of all calls that were made."""

    def call(self, name: str, *arguments: Argument, path: str = "") -> int:
        """Make a call: its result, negative for an errno. Where filters refuse these arguments
        and let others through that mean the same to the kernel, with those."""
        self.tried.add(name)
        if narrow(name):
            arguments = self.passing(name, *arguments) or arguments
        kept = _kept(arguments)
        self.last = Tried(name, kept, 0, path)  # should it be the process's end
        result = self.child.call(name, *arguments)
        if result == -errno.EMFILE:
            # An attacker would close some, too: a child of ours gives up those it was born with.
            self.child.manage("close_range", 3, 0xFFFFFFFF, 0)
            result = self.child.call(name, *arguments)
        self.last = Tried(name, kept, -result if result < 0 else 0, path)
        return result

    def undo(self, name: str, *arguments: Argument) -> None:
        """Take back what the attempt made: the filters are not asked, and where the attempt was
        the child's end another one does it."""
        zygote = self.child.parent
        if self.child.alive or zygote is None:
            self.child.manage(name, *arguments)
            return
        with zygote.fork() as other:
            other.manage(name, *arguments)

    def execute(self, name: str, *arguments: Argument, path: str = "") -> int:
        """Make a call that executes a program: 0 once that stands before its first instruction."""
        return self.call(name, *arguments, path=path)

    def passes(self, name: str | int, *arguments: Argument) -> Verdict:
        """What the filters say to a call, without making it."""
        verdict = self.oracle.verdict(name, *arguments)
        if isinstance(name, str) and not verdict.passes:
            self.denied[name, _kept(arguments)] = verdict
        return verdict

    def passing(self, name: str, *arguments: Argument) -> tuple[Argument, ...] | None:
        """The arguments as they are, or with upper halves that the kernel does not look at, so
        that every filter lets them through; None where none of those forms passes."""
        if self.view.programs == ():
            return arguments
        forms = _forms_of(name, arguments)
        return next((form for form in forms if self.passes(name, *form).passes), None)

    def refused(self, name: str, *arguments: Argument) -> Outcome:
        """What it means that filters let none of these forms of a call through."""
        if self._other_form(Tried(name, arguments, 0)):
            return undecided(f"a filter refuses some forms of {name} and not all")
        return closed(self.passes(name, *arguments).words)

    def goes_on_in(self, local: int) -> None:
        """From here on, the process that the last call has made (its number is `local`) is the
        one that tries. Raises InjectionFailed."""
        self.child = self.child.made(local)

    def judged(
        self,
        result: int,
        reached: tuple[int, ...] = (),
        *,
        detail: str = "",
        capability: str = "",
        absent: frozenset[int] = ABSENT,
    ) -> Outcome:
        """What the last call's result means: `reached` are errnos that only come after the check
        in question, `absent` those of a kernel that does not have it."""
        if result >= 0 or -result in reached:
            return Outcome(Seen.OPEN, detail)
        tried = self.last
        if -result in FULL:
            return Outcome(Seen.UNSUPPORTED, detail, tried, layer="limit")
        if -result in absent and tried is not None and self._reaches(tried):
            return Outcome(Seen.UNSUPPORTED, detail, tried, layer=ABSENCE)
        if tried is not None and self._other_form(tried):
            return undecided(f"a filter refuses some forms of {tried.name} and not all")
        return Outcome(Seen.CLOSED, detail, tried, capability)

    def socket(self, family: int, kind: int, protocol: int = 0) -> int:
        """A socket, or a negative errno; in the form that a filter lets through, where it tells
        forms apart that come to the same: flags of its type, and the protocol that 0 stands for."""
        chosen, number = self._socket_form(family, kind, protocol) or (kind, protocol)
        handle = self.call("socket", family, chosen, number)
        if handle >= 0 and kind & ~chosen & NONBLOCK:
            self.child.manage("fcntl", handle, F_SETFL, NONBLOCK)
        return handle

    def any_socket(self, family: int) -> int:
        """A socket of whichever type filters let through, where none is needed in particular."""
        passing = (kind for kind in (DGRAM, STREAM) if self.socket_passes(family, kind))
        return self.socket(family, next(passing, DGRAM))

    def socket_passes(self, family: int, kind: int) -> bool:
        """Whether filters let some form of such a socket through."""
        return self._socket_form(family, kind, 0) is not None

    def _socket_form(self, family: int, kind: int, protocol: int) -> tuple[int, int] | None:
        named = () if protocol else self._named(family, kind)
        forms = [(form, number) for number in (protocol, *named) for form in (kind, *_forms(kind))]
        return next((form for form in forms
                     if self.passing("socket", family, *form) is not None), None)  # fmt: skip

    @staticmethod
    def _named(family: int, kind: int) -> tuple[int, ...]:
        """The protocol of an internet socket of this type (ip(7))."""
        found = {1: 6, 2: 17}.get(kind & 0xF) if family in (2, 10) else None
        return () if found is None else (found,)

    def _other_form(self, tried: Tried) -> bool:
        """Whether filters that refuse a call may let one through that comes to the same: with
        upper halves that nobody looks at, a socket also by its flags or by a protocol that was not
        asked for."""
        programs, number = self.view.programs, native_calls().get(tried.name, -1)
        if not programs or number < 0 or self._reaches(tried):
            return False
        given = tuple((index, value) for index, value in enumerate(tried.arguments)
                      if isinstance(value, int))  # fmt: skip
        if tried.name != "socket":
            return may_pass(programs, number, given)
        (_, family), (_, kind), (_, protocol) = given
        # 0 is whichever suits the type, but to netlink(7), where it is one of its own.
        last = ((2, protocol),) if protocol or family == AF_NETLINK else ()
        return any(may_pass(programs, number, ((0, family), (1, form), *last))
                   for form in _forms(kind))  # fmt: skip

    def _reaches(self, tried: Tried) -> bool:
        return self.passes(tried.name, *tried.arguments).passes

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """A descriptor, or a negative errno; by an older or newer call where a filter refuses
        openat: an attacker would do the same."""
        found = self.call("openat", AT_FDCWD, path, flags | O_SAFE, mode, path=path)
        if found in (-errno.EPERM, -errno.ENOSYS, -errno.EACCES):
            first = self.last
            if first is not None and not self._reaches(first):
                other = self.call("open", path, flags | O_SAFE, mode, path=path)
                return other if other >= 0 else found
        return found


def _kept(arguments: tuple[Argument, ...]) -> tuple[Argument, ...]:
    return tuple(bytes(value) if isinstance(value, bytearray) else value for value in arguments)


WORD, BEYOND = 0xFFFFFFFF, 1 << 32
"""The low half of an argument, and a bit above it."""


def _forms_of(name: str, arguments: tuple[Argument, ...]) -> Iterator[tuple[Argument, ...]]:
    """Arguments as they are, then with a bit where the kernel does not look: in one place alone,
    or everywhere."""
    yield arguments
    places = [at for at in narrow(name) if at < len(arguments) and isinstance(arguments[at], int)]
    for chosen in filter(None, dict.fromkeys((*((at,) for at in places), tuple(places)))):
        yield tuple(
            value & WORD | BEYOND if at in chosen and isinstance(value, int) else value
            for at, value in enumerate(arguments)
        )


AT_FDCWD = -100
O_SAFE = 0o2000000 | 0o4000 | 0o400
"""O_CLOEXEC, O_NONBLOCK and O_NOCTTY: nothing waits, and no terminal becomes ours."""


CLOEXEC, NONBLOCK, F_SETFL = 0o2000000, 0o4000, 4
AF_NETLINK, STREAM, DGRAM = 16, 1, 2


def _forms(kind: int) -> tuple[int, ...]:
    """A socket's type with each choice of flags (socket(2))."""
    return tuple(kind & 0xF | flags for flags in (0, CLOEXEC, NONBLOCK, CLOEXEC | NONBLOCK))


class Probe(msgspec.Struct, frozen=True):
    """One probe. `needs` say when configuration calls it open, in the words of the knowledge
    base; `decides` are the conditions that its result settles, and openings as `probe:ID`. `also`
    are other ways to the same, each tried by a child of its own: it is closed where all are."""

    id: str
    group: str
    title: str
    technique: str
    attempt: Callable[[Inside], Outcome]
    needs: tuple[str | dict[str, list[object]], ...] = ()
    decides: tuple[str, ...] = ()
    rules_out: tuple[str, ...] = ()
    """Conditions that are closed where this attempt is, and every other one that names them; open,
    it settles nothing: there is a way, and whether anything lies at its end is not asked."""
    safe: str = ""
    """The safety argument of one row of a table, beside that of its function."""
    also: tuple[Callable[[Inside], Outcome], ...] = ()

    @property
    def ways(self) -> tuple[Callable[[Inside], Outcome], ...]:
        """All functions that try it."""
        return (self.attempt, *self.also)

    @property
    def safety(self) -> str:
        """Why it does no harm."""
        texts = (" ".join((way.__doc__ or "").split()) for way in self.ways)
        return " ".join((*dict.fromkeys(texts), self.safe)).strip()


def unsupported(detail: str, layer: str = "") -> Outcome:
    """There is nothing to try."""
    return Outcome(Seen.UNSUPPORTED, detail, layer=layer)


def undecided(detail: str) -> Outcome:
    """It can be neither done here nor ruled out."""
    return Outcome(Seen.UNSUPPORTED, f"{NOT_KNOWN}{detail}")


def opened(detail: str = "") -> Outcome:
    """It works."""
    return Outcome(Seen.OPEN, detail)


def closed(layer: str, detail: str = "") -> Outcome:
    """It does not, and this is why."""
    return Outcome(Seen.CLOSED, detail, layer=layer)
