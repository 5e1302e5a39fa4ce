"""Inside by way of the workload's own process: it is made to clone itself, and goes on.

One of its threads stops for the time of one clone(2) and, in the end, of one wait4(2). The clone
has its filters, Landlock domain, descriptors and everything else, whatever started it. Its exit
signal is 0, so that no handler runs and no wait(2) of the workload's own sees it (waitpid(2),
__WCLONE); what is left of it is collected in the workload's name, also when we are killed
(`leftover`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from ringfence.collect.process import procfs
from ringfence.collect.seccomp.tables import native_calls
from ringfence.errors import InputError, MissingError
from ringfence.probe.driven import (
    OPTIONS,
    WALL,
    WNOHANG,
    Driven,
    Scheduling,
    adopted,
    ended,
    scheduling,
)
from ringfence.probe.leftover import NAME, guarded, left_over
from ringfence.probe.priority import preferred
from ringfence.run import tracee
from ringfence.run.registers import machine
from ringfence.run.tracee import Ended, InjectionFailed

EAGAIN = 11
PR_SET_NAME = 15
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""Signals that end the program from outside."""


class Stopped:
    """How long the workload stood still, in seconds: one entry a stop."""

    def __init__(self) -> None:
        self.times: list[float] = []


@contextlib.contextmanager
def injected(pid: int, stopped: Stopped | None = None) -> Iterator[Driven]:
    """A clone of the process, standing still, to be driven. Raises InputError or MissingError."""
    watch = stopped or Stopped()
    _check(pid)
    native_calls()  # read before anything stands still
    try:
        standing = tracee.stops(pid)
    except InjectionFailed as failure:
        raise _refused(pid, failure) from None
    if standing:
        raise InputError(
            f"is stopped ({signal.Signals(standing).name})", where=f"PID {pid}",
            remedy="let it go on (SIGCONT), or leave out --inject",
        )  # fmt: skip
    with guarded(pid, lambda: _collect(pid, watch)), _clone(pid, watch) as zygote:
        yield zygote


@contextlib.contextmanager
def _clone(pid: int, watch: Stopped) -> Iterator[Driven]:
    scheduled = _inherited(pid)
    try:
        child, local = _cloned(pid, watch)
    except InjectionFailed as failure:
        raise _refused(pid, failure) from None
    zygote = None
    try:
        try:
            zygote = adopted(child, tracee.registers(child), scheduled)
            zygote.manage("prctl", PR_SET_NAME, NAME + b"\0", 0, 0, 0)
        except InjectionFailed as failure:
            raise _refused(pid, failure) from None
        yield zygote
    finally:
        if zygote is not None:
            zygote.close()
        else:
            ended(child)
        _collect(pid, watch, local)


def _inherited(pid: int) -> Scheduling | None:
    """The scheduling that a clone of it has; None where that is another one than its own.
    Others of its user may change the clone's from its first moment."""
    found = scheduling(pid)
    return None if found is None or found[0] & os.SCHED_RESET_ON_FORK else found


def _check(pid: int) -> None:
    if os.geteuid() != 0:
        raise MissingError("driving another process", remedy="run as root (sudo)")
    machine()
    try:
        fields = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
    except (OSError, procfs.Vanished):
        raise InputError("there is no such process", where=f"PID {pid}") from None
    state, tracer = fields.get("State", "?")[:1], fields.get("TracerPid", "0")
    if tracer != "0":
        name = _name(int(tracer))
        raise InputError(
            f"is traced already, by process {tracer} ({name})", where=f"PID {pid}",
            remedy="end that, or leave out --inject",
        )  # fmt: skip
    if state in "ZX":
        raise InputError("has ended", where=f"PID {pid}")


def _name(pid: int) -> str:
    try:
        return procfs.read(pid, "comm").decode("utf-8", "replace").strip()
    except (OSError, procfs.Vanished):
        return "ended"


def _refused(pid: int, failure: InjectionFailed) -> InputError:
    if isinstance(failure, Ended):
        return InputError("ended while it was being cloned", where=f"PID {pid}")
    return InputError(str(failure), where=f"PID {pid}", remedy="leave out --inject")


FOLLOWED = tracee.TRACE_FORK | tracee.TRACE_VFORK | tracee.TRACE_CLONE


@contextlib.contextmanager
def _held(pid: int, watch: Stopped) -> Iterator[Any]:
    """One thread of the workload, standing still with its registers; it goes on as it was. Its
    filters are lifted for what we make it do: one that refuses clone refuses the workload. Our own
    signals wait, so that nothing leaves it half-way."""
    began = time.perf_counter()
    former = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        with preferred():
            tracee.seize(pid, FOLLOWED | tracee.TRACE_SYSGOOD)
            try:
                with tracee.held(pid) as before:
                    tracee.options(pid, FOLLOWED | tracee.TRACE_SYSGOOD | tracee.SUSPEND_SECCOMP)
                    yield before
            finally:
                with contextlib.suppress(InjectionFailed):
                    tracee.detach(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        watch.times.append(time.perf_counter() - began)


def _cloned(pid: int, watch: Stopped) -> tuple[int, int]:
    """The clone's number here, and as the workload sees it. Raises InjectionFailed."""
    children: list[int] = []

    def seen(event: int) -> None:
        if event in (tracee.EVENT_FORK, tracee.EVENT_VFORK, tracee.EVENT_CLONE):
            children.append(tracee.message(pid))
            tracee.status(children[-1])
            # It ends with us from now on, whatever happens to us.
            tracee.options(children[-1], OPTIONS)

    try:
        left = _left(pid)
        with _held(pid, watch) as before:
            _wait(pid, before, left)
            local = tracee.call_made(pid, _prepared(pid, before, "clone", (0, 0, 0, 0, 0)), seen)
    except BaseException:
        for child in children:
            ended(child)
        raise
    if not children:
        reason = os.strerror(-local).lower()
        if local == -EAGAIN:
            reason = "its limit of processes leaves no room for one more"
        raise InjectionFailed(f"{pid} cannot be cloned: {reason}")
    return children[0], local


def _prepared(pid: int, before: Any, name: str, values: tuple[int, ...]) -> Any:
    """Registers with which the workload makes a call by an instruction of its own."""
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        place = tracee.instruction(pid, before, memory)
    finally:
        os.close(memory)
    return tracee.prepared(before, place, native_calls()[name], values)


def _collect(pid: int, watch: Stopped, *clones: int) -> None:
    """Take ended clones from the workload's list of children: these, and what is left over."""
    ended_ones = {*clones, *_left(pid)}
    with contextlib.suppress(InjectionFailed), _held(pid, watch) as before:
        _wait(pid, before, ended_ones)


def _left(pid: int) -> set[int]:
    return {number for number, over in left_over(pid).items() if over}


def _wait(pid: int, before: Any, clones: set[int]) -> None:
    for number in clones:
        regs = _prepared(pid, before, "wait4", (number, 0, WALL | WNOHANG, 0))
        tracee.call_made(pid, regs, lambda event: None)
