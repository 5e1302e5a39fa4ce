"""Inside by way of the workload's own process: it is made to clone itself, and goes on.

One of its threads stops for the time of one clone(2) and, in the end, of one wait4(2). The clone
has its filters, Landlock domain, descriptors and everything else, whatever started it. Its exit
signal is 0, so that no handler runs and no wait(2) of the workload's own sees it (waitpid(2),
__WCLONE); what is left of it is collected in the workload's name.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

from ringfence.collect.process import procfs
from ringfence.collect.seccomp.tables import native_calls
from ringfence.errors import InputError, MissingError
from ringfence.probe.driven import WALL, WNOHANG, Driven, adopted
from ringfence.run import tracee
from ringfence.run.tracee import Ended, InjectionFailed

EAGAIN = 11


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
        child, local = _cloned(pid, watch)
    except InjectionFailed as failure:
        raise _refused(pid, failure) from None
    try:
        zygote = adopted(child, tracee.registers(child))
    except InjectionFailed as failure:
        _collect(pid, local, watch)
        raise _refused(pid, failure) from None
    try:
        yield zygote
    finally:
        zygote.close()
        _collect(pid, local, watch)


def _check(pid: int) -> None:
    if os.geteuid() != 0:
        raise MissingError("driving another process", remedy="run as root (sudo)")
    tracee.machine()
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
    if state in "TtZX":
        raise InputError(f"is not running (state {state})", where=f"PID {pid}")


def _name(pid: int) -> str:
    try:
        return procfs.read(pid, "comm").decode("utf-8", "replace").strip()
    except (OSError, procfs.Vanished):
        return "ended"


def _refused(pid: int, failure: InjectionFailed) -> InputError:
    if isinstance(failure, Ended):
        return InputError("ended while it was being cloned", where=f"PID {pid}")
    return InputError(str(failure), where=f"PID {pid}", remedy="leave out --inject")


@contextlib.contextmanager
def _held(pid: int, watch: Stopped) -> Iterator[Any]:
    """One thread of the workload, standing still with its registers; it goes on as it was."""
    began = time.perf_counter()
    tracee.seize(pid, tracee.TRACE_FORK | tracee.TRACE_VFORK | tracee.TRACE_CLONE)
    pending = 0
    try:
        pending = tracee.interrupt(pid)
        before = tracee.registers(pid)
        try:
            yield before
        finally:
            after = tracee.copied(before)
            if not pending:
                tracee.machine().restarted(after)
            tracee.set_registers(pid, after)
    finally:
        with contextlib.suppress(InjectionFailed):
            tracee.detach(pid, pending)
        watch.times.append(time.perf_counter() - began)


def _cloned(pid: int, watch: Stopped) -> tuple[int, int]:
    """The clone's number here, and as the workload sees it."""
    with _held(pid, watch) as before:
        _suspend_filters(pid)
        child, local = _call(pid, before, "clone", (0, 0, 0, 0, 0))
        if not child:
            reason = os.strerror(-local).lower()
            if local == -EAGAIN:
                reason = "its limit of processes leaves no room for one more"
            raise InjectionFailed(f"{pid} cannot be cloned: {reason}")
    return child, local


def _suspend_filters(pid: int) -> None:
    """A filter that refuses clone refuses the workload, not us."""
    followed = tracee.TRACE_FORK | tracee.TRACE_VFORK | tracee.TRACE_CLONE
    tracee.options(pid, followed | tracee.SUSPEND_SECCOMP)


def _call(pid: int, before: Any, name: str, values: tuple[int, ...]) -> tuple[int, int]:
    """One call of the workload's own: the child that it made, 0 for none, and the result."""
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        place = tracee.instruction(pid, before, memory)
    finally:
        os.close(memory)
    child = 0
    status = tracee.step(pid, tracee.prepared(before, place, native_calls()[name], values))
    while status >> 16 in (tracee.EVENT_FORK, tracee.EVENT_VFORK, tracee.EVENT_CLONE):
        child = tracee.message(pid)
        tracee.wait(child)
        tracee.request(tracee.SINGLESTEP, pid)
        status = tracee.status(pid)
    return child, tracee.result(tracee.registers(pid))


def _collect(pid: int, local: int, watch: Stopped) -> None:
    """Take the ended clone from the workload's list of children."""
    with contextlib.suppress(InjectionFailed), _held(pid, watch) as before:
        _suspend_filters(pid)
        _call(pid, before, "wait4", (local, 0, WALL | WNOHANG, 0))
