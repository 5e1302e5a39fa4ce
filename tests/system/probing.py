"""Probes tried one by one on a process of a test's own that stands under one condition.

The condition is set up in a forked child by plain system calls (`conditions`), never by code of the
probe's. Before it goes to sleep, the child may do the same act itself, by Python's own means: what
it could do then is the oracle.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ringfence.collect.process.tree import read_process
from ringfence.knowledge.loader import load
from ringfence.model.facts import Facts, Target
from ringfence.probe.attempts import Result, attempted
from ringfence.probe.battery import PROBES
from ringfence.probe.beside import told_apart
from ringfence.probe.driven import Driven
from ringfence.probe.inject import injected
from ringfence.probe.join import joined
from ringfence.probe.view import view_of

Step = Callable[[], object]
Act = Callable[[], object]
KNOWLEDGE = load()
BY_ID = {probe.id: probe for probe in PROBES}
JOIN, INJECT = "join", "inject"
OPEN, CLOSED, UNSUPPORTED = "open", "closed", "unsupported"
PATIENCE = 10.0
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37


class Shown(NamedTuple):
    """What a probe said: seen, stopped by which layer, and its detail."""

    seen: str
    by: str
    detail: str


class Standing(NamedTuple):
    """A process under its condition: its number here, and the errno of its own act."""

    pid: int
    errno: int


class Case(NamedTuple):
    """One condition and its opposite. `act` is the same thing done by the process itself: an
    OSError from it must come where the probe says closed, and nowhere else."""

    probe: str
    opened: tuple[Step, ...]
    closed: tuple[Step, ...]
    by: str
    act: Act | None = None
    stance: str = JOIN


def attempt(pid: int, *ids: str, stance: str = JOIN) -> dict[str, Shown]:
    """These probes alone, tried on a live process."""
    process = read_process(pid, KNOWLEDGE, ())
    view = view_of(process, Facts(Target("process", "test"), processes=(process,)),
                   owns=stance == INJECT)  # fmt: skip
    probes = [BY_ID[name] for name in ids]
    with _inside(pid, stance) as zygote:
        results = attempted(zygote, view, probes)
        if stance == INJECT:
            results = told_apart(results, probes, zygote, view, pid)
    return {name: _shown(result) for name, result in results.items()}


@contextlib.contextmanager
def _inside(pid: int, stance: str) -> Iterator[Driven]:
    if stance == INJECT:
        with injected(pid) as zygote:
            yield zygote
        return
    with joined(pid) as (zygote, _):
        yield zygote


def _shown(result: Result) -> Shown:
    seen = result.outcome.seen.value
    return Shown(seen, result.layer if seen != OPEN else "", result.outcome.detail)


def check(*cases: Case) -> None:
    """Sets each condition up, then its opposite, and compares what the probe says. Cases with the
    same opposite set that up once."""
    seen: set[tuple[object, ...]] = set()
    for case in cases:
        opposite = (case.probe, case.opened, case.act, case.stance)
        if opposite not in seen:
            seen.add(opposite)
            _compare(case, OPEN, case.opened)
        shown = _compare(case, CLOSED, case.closed)
        assert shown.by == case.by, shown


def _compare(case: Case, seen: str, steps: tuple[Step, ...]) -> Shown:
    with standing(*steps, act=case.act) as there:
        shown = attempt(there.pid, case.probe, stance=case.stance)[case.probe]
    assert shown.seen == seen, f"{case.probe} should be {seen}: {shown}"
    if case.act is not None:
        could = "could" if there.errno == 0 else os.strerror(there.errno)
        assert (there.errno == 0) == (seen == OPEN), f"its own act, where {seen}: {could}"
    return shown


# --- a process of the test's own -----------------------------------------------------------------


@contextlib.contextmanager
def standing(
    *steps: Step, act: Act | None = None, orphan: bool = False, becomes: Step | None = None
) -> Iterator[Standing]:
    """A child that has taken these steps, done its act, and waits; killed afterwards. An `orphan`
    is no relative of ours: the view of a workload leaves us and our kin out. `becomes` executes
    another program in the end."""
    with contextlib.ExitStack() as stack:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.callback(ours.close)
        # With this option the kernel says who speaks, numbered as in our own PID namespace.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        child = 0
        if orphan:
            _orphaned(theirs, steps, act)
        else:
            child = _forked(theirs, steps, act, becomes)
            stack.callback(_reaped, child)
        theirs.close()
        pid, number = _heard(ours)
        if pid != child:
            stack.callback(_killed, pid)
        if becomes is not None:
            assert not ours.recv(1), "it did not become another program"  # closed by the execve
        yield Standing(pid, number)


def _forked(
    speak: socket.socket, steps: tuple[Step, ...], act: Act | None, becomes: Step | None = None
) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            for step in steps:
                step()
            os.write(speak.fileno(), struct.pack("=i", did(act) if act is not None else 0))
            if becomes is not None:
                becomes()
            while True:
                signal.pause()
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.write(speak.fileno(), struct.pack("=i", -1) + repr(error).encode()[:2000])
        finally:
            os._exit(1)
    return pid


def _orphaned(speak: socket.socket, steps: tuple[Step, ...], act: Act | None) -> None:
    libc = ctypes.CDLL(None)
    before = ctypes.c_int()
    libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    try:
        between = os.fork()
        if between == 0:
            _forked(speak, steps, act)
            os._exit(0)
        os.waitpid(between, 0)
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def did(act: Act) -> int:
    """The errno that an act ends in, done by a child of its own; 0 where it succeeds."""
    pid = os.fork()
    if pid == 0:
        number = 255
        try:
            act()
            number = 0
        except OSError as error:
            number = error.errno or 255
        finally:
            os._exit(number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _heard(ours: socket.socket) -> tuple[int, int]:
    ready, _, _ = select.select([ours], [], [], PATIENCE)
    assert ready, "the process did not come to stand"
    data, rows, _, _ = ours.recvmsg(4096, socket.CMSG_SPACE(12))
    pid, _, _ = struct.unpack("=iII", rows[0][2])
    (number,) = struct.unpack_from("=i", data)
    assert number >= 0 or len(data) == 4, f"the condition could not be set up: {data[4:].decode()}"
    return pid, number


def _reaped(pid: int) -> None:
    with contextlib.suppress(ChildProcessError, ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _killed(pid: int) -> None:
    """End one that somebody else collects."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            select.select([handle], [], [], PATIENCE)
        finally:
            os.close(handle)
