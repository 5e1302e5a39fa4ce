"""A process that runs no code of its own: we make it call the kernel, one call at a time.

It stands still under ptrace from its first moment to its end. Each call is one step over a system
call instruction in a page that we mapped there; arguments lie in a second such mapping. Signals
are never delivered to it. What it forks or executes is caught before its first instruction.

The workload runs as the same user, and may be hostile. Its processes may not open a process that is
not dumpable (ptrace(2), access mode checking), so ours is not, but where a call asks for that
(`expose`). prlimit(2) and sched_setscheduler(2) do not look at that: limits, scheduling,
instruction and paths are compared after each call, and a difference is the end of the probing
(`Tampered`). So is a time that no probing takes (`Late`): the workload may keep processors from us.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, TypeVar

from ringfence.collect.process import procfs
from ringfence.collect.seccomp.tables import native_calls
from ringfence.probe.abi import ABIS, Abi
from ringfence.run import tracee
from ringfence.run.registers import U64, machine
from ringfence.run.tracee import Ended, InjectionFailed

Argument = int | str | bytes | bytearray
"""An int goes as it is; a str is a path, placed with its NUL; bytes are placed; a bytearray is
placed, and holds afterwards what the kernel wrote there."""

PAGE = 4096
SCRATCH = 64 * PAGE
"""Bytes for arguments: enough for all calls of one probe."""
PROT_READ, PROT_WRITE, PROT_EXEC, MAP_PRIVATE, MAP_ANONYMOUS = 1, 2, 4, 2, 0x20
LOWEST, HIGHEST = 0x10000, 0x7FFFFFFFF000
"""Everything else of the address space is given up (arch/x86/include/asm/page_64_types.h)."""
WNOHANG, WALL = 1, 0x40000000
RSEQ_UNREGISTER = 1
PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4
OF_LIMITS = frozenset({"prlimit64", "setrlimit", "setpriority"})
"""Calls that change limits or scheduling by our own doing."""
NONE: Mapping[int, bytes] = MappingProxyType({})
SYS_SECCOMP = 1
"""si_code of a SIGSYS that a filter sent (sigaction(2))."""
MOST_STOPS = 32
"""Stops on the way through one call."""
FOLLOWED = tracee.TRACE_FORK | tracee.TRACE_VFORK | tracee.TRACE_CLONE | tracee.TRACE_EXEC
OPTIONS = FOLLOWED | tracee.TRACE_SECCOMP | tracee.EXITKILL
PATIENCE = 0.5
"""Seconds that a call may take; none of those that are made here waits for anything."""
MOST_SECONDS = 300.0
"""No call but those that clear away is begun later: an idle machine needs a few seconds for all."""


D = TypeVar("D", bound="Driven")


class Blocked(InjectionFailed):
    """The call does not come back."""


class Worthless(InjectionFailed):
    """The end of the probing, not of one attempt."""


class Late(Worthless):
    """The time for all attempts is over."""

    def __init__(self, pid: int) -> None:
        super().__init__(
            f"process {pid}, which tries, was not done after {MOST_SECONDS:.0f} seconds: something "
            "keeps the processors from it"
        )


class Tampered(Worthless):
    """Somebody else changed the process: what its calls answered is worth nothing."""

    def __init__(self, pid: int, what: str) -> None:
        super().__init__(
            f"process {pid}, which tries, was tampered with ({what}): nothing can be said here"
        )


class Killed(InjectionFailed):
    """The call was the end of the process. `signal` is 0 where it exited."""

    def __init__(self, name: str, status: int | None) -> None:
        dead = status is not None and os.WIFSIGNALED(status)
        self.signal = os.WTERMSIG(status or 0) if dead else 0
        super().__init__(f"{name} ended the process")


class Driven:
    """One such process. Made by `adopted` from a process that has just been caught, or by
    `fork`; `close` ends it."""

    def __init__(self, pid: int, regs: Any, parent: Driven | None = None, local: int = 0) -> None:
        self.pid = pid
        self.regs = regs
        self.parent = parent
        self.local = local
        """Its number as its parent sees it."""
        self.code = self.scratch = self._used = self._place = 0
        self.executed = self.trapped = False
        """Whether the last call executed a program, or was answered with SIGSYS."""
        self.caught: list[int] = []
        """Processes that it made, standing still."""
        self.alive = True
        self.dumpable = True
        """Whether the workload's process is: then its files in /proc are its own."""
        self.guarded = False
        """Whether others of the same user are kept out."""
        self._suspendable = True
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        self._limits, self._scheduling = limits(pid), scheduling(pid)
        self._until: float = parent._until if parent else time.monotonic() + MOST_SECONDS

    # --- its life --------------------------------------------------------------------------------

    def settle(self) -> None:
        """Map the two pages that we need, and give up everything else it had: then forks are
        quick, whatever it was a copy of. Raises InjectionFailed."""
        self.code = tracee.instruction(self.pid, self.regs, self._memory)
        self.dumpable = self.manage("prctl", PR_GET_DUMPABLE, 0, 0, 0, 0) == 1
        self.guard()
        private = MAP_PRIVATE | MAP_ANONYMOUS
        scratch = self.manage("mmap", 0, SCRATCH, PROT_READ | PROT_WRITE, private, -1, 0)
        code = self.manage("mmap", 0, PAGE, PROT_READ | PROT_EXEC, private, -1, 0)
        if scratch < 0 or code < 0:
            raise InjectionFailed(f"no memory in {self.pid}: {os.strerror(-min(scratch, code))}")
        self.scratch = scratch
        # ptrace may write where the process itself may not.
        os.pwrite(self._memory, machine().instruction, code)
        for abi in ABIS:
            os.pwrite(self._memory, abi.instruction, code + abi.offset)
        self.code = code
        # The kernel writes to this area of the C library's, and a fault there is a signal.
        area = tracee.rseq(self.pid)
        if area.pointer:
            self.manage("rseq", area.pointer, area.size, RSEQ_UNREGISTER, area.signature)
        first, second = sorted(((scratch, scratch + SCRATCH), (code, code + PAGE)))
        self.manage("munmap", LOWEST, first[0] - LOWEST)
        self.manage("munmap", first[1], second[0] - first[1])
        self.manage("munmap", second[1], HIGHEST - second[1])

    def guard(self) -> None:
        """Keep others of the same user out, where that does not keep us out, too: that asks for
        CAP_SYS_PTRACE. Raises InjectionFailed."""
        self.manage("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
        try:
            os.close(os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC))
        except PermissionError:
            self.manage("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
            self.guarded = False
        else:
            self.guarded = True

    def expose(self) -> None:
        """Give it its files in /proc, as the workload has them or may have them by asking
        (PR_SET_DUMPABLE(2const)). From now on the workload may reach into it. Raises Killed,
        Blocked or InjectionFailed."""
        ask = self.manage if self.dumpable else self.call
        ask("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)

    def limited(self) -> None:
        """Take its limits and scheduling, as they are now, for those that it should have."""
        self._limits, self._scheduling = limits(self.pid), scheduling(self.pid)

    def fork(self) -> Driven:
        """A child in the same state. Raises InjectionFailed."""
        return self.fork_as(Driven)

    def fork_as(self, kind: type[D]) -> D:
        """The same, as another kind. Nobody is told of its end: its exit signal is 0."""
        before = len(self.caught)
        local = self.manage("clone", 0, 0, 0, 0, 0)
        if local < 0 or len(self.caught) == before:
            raise InjectionFailed(f"{self.pid} cannot fork: {os.strerror(-local).lower()}")
        return self._taken(kind, local)

    def made(self, local: int) -> Driven:
        """The child that the last call made, to be driven like one of `fork`; `local` is its
        number here. Raises InjectionFailed."""
        return self._taken(Driven, local)

    def _taken(self, kind: type[D], local: int) -> D:
        if not self.caught:
            raise InjectionFailed(f"what {self.pid} has made was not caught")
        pid = self.caught.pop()
        child = kind(pid, self.regs, self, local)
        child.code, child.scratch = self.code, self.scratch
        child.dumpable, child.guarded = self.dumpable, self.guarded
        child._suspendable = self._suspendable
        child._limits, child._scheduling = self._limits, self._scheduling
        tracee.options(pid, OPTIONS)
        # Whoever opened its parent before that was guarded still writes there, but not here.
        try:
            child._untouched(child.code)
        except Tampered:
            child.close()
            raise
        return child

    def close(self) -> None:
        """End it and what it made, without a trace for whoever waits for children."""
        for pid in self.caught:
            ended(pid)
            if self.alive:
                with suppress(InjectionFailed):
                    self._managed("wait4", -1, 0, WALL | WNOHANG, 0)
        if self.alive:
            ended(self.pid)
            self.alive = False
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
        if self.parent is not None and self.parent.alive:
            with suppress(InjectionFailed):
                self.parent._managed("wait4", self.local, 0, WALL | WNOHANG, 0)

    @property
    def memory(self) -> int:
        """Its open /proc/PID/mem."""
        return self._memory

    def forget(self) -> None:
        """Drive it no more, and leave it as it is: what executes a program has another memory."""
        os.close(self._memory)
        self._memory, self.alive = -1, False

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- its calls -------------------------------------------------------------------------------

    def call(self, name: str | int, *arguments: Argument) -> int:
        """What the kernel answers: negative for an errno. Raises Killed, Blocked or Worthless."""
        self._in_time()
        return self._called(name, *arguments)

    def call_as(self, abi: Abi, number: int, *arguments: int) -> int:
        """A call in another ABI, by its number there; addresses of ours are too long for it. A
        kernel without the ABI answers ENOSYS, or a signal. Raises as `call`."""
        self._in_time()
        self._place = self.code + abi.offset
        regs = tracee.prepared(self.regs, self._place, number, arguments, abi.registers)
        found = self._made(regs, f"call {number} of {abi.name}")
        self._untouched(self.code, {self._place: abi.instruction})
        return found

    def manage(self, name: str, *arguments: Argument) -> int:
        """As `call`, but its own filters are not asked: for what belongs to the driving, not to
        the probing. Raises Killed, Blocked or Worthless."""
        self._in_time()
        return self._managed(name, *arguments)

    def _in_time(self) -> None:
        if time.monotonic() > self._until:
            raise Late(self.pid)

    def _called(self, name: str | int, *arguments: Argument) -> int:
        number = native_calls().get(name, -1) if isinstance(name, str) else name
        if number < 0:
            return -38  # ENOSYS: this architecture has no such call
        placed = [self._placed(value) for value in arguments]
        self._place = self.code
        regs = tracee.prepared(self.regs, self.code, number, tuple(placed))
        found = self._made(regs, str(name))
        if name in OF_LIMITS:
            self.limited()
        if not self.executed:
            texts = zip(arguments, placed, strict=True)
            self._untouched(self._place, {at: os.fsencode(value) + b"\0" for value, at in texts
                                          if isinstance(value, str)})  # fmt: skip
        for value, place in zip(arguments, placed, strict=True):
            if isinstance(value, bytearray) and not self.executed:
                value[:] = os.pread(self._memory, len(value), place)
        return found

    def _managed(self, name: str, *arguments: Argument) -> int:
        if not self._suspendable:
            return self._called(name, *arguments)
        try:
            tracee.options(self.pid, OPTIONS | tracee.SUSPEND_SECCOMP)
        except Ended:
            raise
        except InjectionFailed:
            self._suspendable = False  # asks for CAP_SYS_ADMIN; then we have put no filter on it
            return self._called(name, *arguments)
        try:
            return self._called(name, *arguments)
        finally:
            with suppress(InjectionFailed):
                tracee.options(self.pid, OPTIONS)

    def put(self, data: bytes) -> int:
        """The address where `data` lies from now on."""
        size = (len(data) + 15) & ~15
        if self._used + size > SCRATCH:
            self._used = 0
        place = self.scratch + self._used
        self._used += size
        os.pwrite(self._memory, data, place)
        return place

    def read(self, place: int, size: int) -> bytes:
        """Bytes of its memory."""
        return os.pread(self._memory, size, place)

    def write(self, place: int, data: bytes) -> None:
        """Put bytes into its memory, whatever the page allows."""
        os.pwrite(self._memory, data, place)

    def _placed(self, value: Argument) -> int:
        if isinstance(value, int):
            return value
        return self.put(os.fsencode(value) + b"\0" if isinstance(value, str) else bytes(value))

    def _untouched(self, code: int, texts: Mapping[int, bytes] = NONE) -> None:
        """Compare its instruction, the paths of a call by their addresses, its limits and its
        scheduling with what we gave it. Raises Tampered, or InjectionFailed where it has just been
        killed."""
        wanted = ((code, machine().instruction), *texts.items())
        if any(os.pread(self._memory, len(data), place) != data for place, data in wanted):
            changed = "its memory"
        else:
            changed = self._altered()
        if not changed:
            return
        if not _stands(self.pid):
            raise InjectionFailed(f"{self.pid} was killed")
        raise Tampered(self.pid, changed)

    def _altered(self) -> str:
        """What of limits and scheduling is not as we gave it; '' where all is."""
        if limits(self.pid) != self._limits:
            return "its limits"
        return "its scheduling" if scheduling(self.pid) != self._scheduling else ""

    def _made(self, regs: Any, name: str) -> int:
        self.executed = self.trapped = False
        try:
            status, stops = tracee.step(self.pid, regs, PATIENCE), 0
            while not self._finished(status):
                stops += 1
                if stops > MOST_STOPS:
                    raise InjectionFailed(f"{name}: the process stops at signal {status >> 8}")
                tracee.request(tracee.SINGLESTEP, self.pid)
                status = tracee.status(self.pid, PATIENCE)
        except Ended as ended:
            self.alive = False
            raise Killed(name, ended.status) from None
        except InjectionFailed as failure:
            if not str(failure).endswith("did not stop"):
                raise
            # It still runs, or would: whoever keeps the processors from it can have it wait.
            changed = self._altered()
            if changed and limits(self.pid):
                raise Tampered(self.pid, changed) from None
            raise Blocked(f"{name} does not come back") from None
        if self.executed:
            return 0
        if self.trapped:
            return -38
        return tracee.result(tracee.registers(self.pid))

    def _finished(self, status: int) -> bool:
        """Whether the call is over at this stop; what it made on the way is caught."""
        event, number = status >> 16, os.WSTOPSIG(status)
        if event in (tracee.EVENT_FORK, tracee.EVENT_VFORK, tracee.EVENT_CLONE):
            child = tracee.message(self.pid)
            tracee.status(child)
            self.caught.append(child)
            return False
        if event == tracee.EVENT_EXEC:
            self.executed = True
            return True
        if event:
            return self._event(event)
        # Signals that somebody sent are taken away from it: whoever runs as the same user could
        # send it what looks like an answer.
        sender = tracee.sent_by(self.pid)
        if number == signal.SIGSYS and sender == SYS_SECCOMP:
            self.trapped = True
            return False  # the trap of the step itself is still to come: it would end the next call
        return number == signal.SIGTRAP and sender > 0 and self._stepped()

    def _stepped(self) -> bool:
        """Whether it is past the instruction: a stop on the way out of a former call is not it."""
        kind = machine()
        place = getattr(tracee.registers(self.pid), kind.counter)
        return bool(place == self._place + len(kind.instruction))

    def _event(self, event: int) -> bool:
        return False


def limits(pid: int) -> bytes:
    """Its limits, as the kernel shows them; nothing where it has ended."""
    try:
        return procfs.read(pid, "limits")
    except (OSError, procfs.Vanished):
        return b""


Scheduling = tuple[int, int, int, set[int]]
"""Policy, priority, nice value and processors (sched(7))."""


def scheduling(pid: int) -> Scheduling | None:
    """Its own; None where it has ended."""
    try:
        return (os.sched_getscheduler(pid), os.sched_getparam(pid).sched_priority,
                os.getpriority(os.PRIO_PROCESS, pid), os.sched_getaffinity(pid))  # fmt: skip
    except ProcessLookupError:
        return None


def _stands(pid: int) -> bool:
    """Whether it still stands still for us."""
    try:
        return procfs.read(pid, "stat").rpartition(b") ")[2][:1] == b"t"
    except (OSError, procfs.Vanished):
        return False


def ended(pid: int) -> None:
    """Kill a process that stands still for us, and wait for its end."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(InjectionFailed):
        while True:
            tracee.status(pid)


def adopted(pid: int, regs: Any, scheduled: Scheduling | None = None) -> Driven:
    """A process that stands still for us, taken over for good; where that cannot be, it is ended.
    `scheduled` is the `scheduling` that it should have, if not what it has. Raises InjectionFailed.
    """
    try:
        tracee.options(pid, OPTIONS)
        tracee.set_signal_mask(pid, U64)
        found = Driven(pid, regs)
        found._scheduling = scheduled or found._scheduling
    except (InjectionFailed, OSError) as error:
        ended(pid)
        raise InjectionFailed(str(error)) from None
    try:
        found.settle()
    except (InjectionFailed, OSError, ValueError) as error:
        found.close()
        raise InjectionFailed(str(error)) from None
    return found
