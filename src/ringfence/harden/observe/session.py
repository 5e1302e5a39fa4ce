"""One run of a service in a container: started, asked, reloaded, stopped; traced if wanted."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ringfence.errors import InputError
from ringfence.harden.observe.exercise import Answer, Exercise, perform
from ringfence.harden.observe.trace import Trace, read_trace
from ringfence.run.engine import Container
from ringfence.run.fence import Fence
from ringfence.run.hearing import hears
from ringfence.run.listening import listening
from ringfence.run.stopping import stop_signal
from ringfence.run.tracing import LOG, strace

_COMPLAINT = re.compile(r"fatal|panic|emerg|error|denied|cannot|could not|failed", re.IGNORECASE)
SETTLED = 0.2
"""Seconds without a new listener after which a service without declared ports counts as up."""
STOPPING = 10.0
"""Seconds between the stop signal and SIGKILL, as engines have it."""


class Plan(msgspec.Struct, frozen=True):
    """How a run goes. `ports` are waited for; `patience` in seconds, to
    come up, and `stopping`, to end."""

    exercise: Exercise
    ports: tuple[int, ...] = ()
    stop: str = "SIGTERM"
    patience: float = 30.0
    stopping: float = STOPPING
    beyond: Exercise = Exercise()
    """Asked, too, but never while tracing: what the exercise did not show."""


class RunFailed(InputError):
    """The service ended by itself or did not come up; `trace` is what it did until then."""

    trace: Trace | None = None


class Run(msgspec.Struct, frozen=True):
    """How it went. `status` is the exit status after the stop signal, None when it had to be
    killed; `after_reload` is empty where it does not catch SIGHUP."""

    answers: tuple[Answer, ...]
    beyond: tuple[Answer, ...]
    after_reload: tuple[Answer, ...]
    ports: tuple[int, ...]
    log: bytes
    status: int | None
    trace: Trace | None = None


def run(
    fence: Fence,
    plan: Plan,
    folder: Path,
    *,
    engine: str = "runc",
    traced: bool = False,
    look: Callable[[Container], None] | None = None,
    serving: Callable[[Container], None] | None = None,
) -> Run:
    """Run the service once; `folder` is private, for the bundle and the trace.

    `serving` is called once it is up, `look` when the exercise is done. Raises RunFailed
    when it ends by itself or does not come up.
    """
    container = Container(fence, folder, engine)
    with contextlib.ExitStack() as stack:
        stack.callback(container.remove)
        container.create()
        tracer = stack.enter_context(strace(container.pid, folder)) if traced else None
        container.start()
        try:
            ports = _until_ready(container, plan)
        except RunFailed as failure:
            if tracer is not None:
                container.remove()
                tracer.finish(plan.patience)
                failure.trace = _read(folder, fence, time.time(), time.time())
            raise
        ready = time.time()
        if serving is not None:
            serving(container)
        answers = perform(plan.exercise, container.pid)
        beyond = () if traced else perform(plan.beyond, container.pid)
        if look is not None:
            look(container)
        again = _reload(container, plan)
        stopping = time.time()
        status = _stop(container, plan)
        if status is None:
            container.remove()
        log = container.output.finish()
        trace = None
        if tracer is not None:
            tracer.finish(plan.patience)
            trace = _read(folder, fence, ready, stopping)
    return Run(answers, beyond, again or (), ports, log, status, trace)


def _read(folder: Path, fence: Fence, ready: float, stopping: float) -> Trace:
    with (folder / LOG).open(errors="surrogateescape") as lines:
        return read_trace(lines, ready, stopping, fence.folder)


def _until_ready(container: Container, plan: Plan) -> tuple[int, ...]:
    """Waits until the service listens. Raises RunFailed when it ends or does not."""
    limit = time.monotonic() + plan.patience
    seen: frozenset[int] = frozenset()
    since = time.monotonic()
    while time.monotonic() < limit:
        if container.poll() is not None:
            raise RunFailed(
                f"the service ended by itself with {_ended(container.status)}{_said(container)}",
                where=container.fence.command[0],
                remedy="it must stay in the foreground, as with nginx -g 'daemon off;'",
            )
        found = listening(container.pid)
        if found != seen:
            seen, since = found, time.monotonic()
        if plan.ports and set(plan.ports) <= seen:
            return tuple(sorted(seen))
        if not plan.ports and seen and time.monotonic() - since > SETTLED:
            return tuple(sorted(seen))
        time.sleep(0.01)
    wanted = ", ".join(str(port) for port in plan.ports) or "any port"
    raise RunFailed(
        f"the service did not listen on {wanted} within {plan.patience:g} s{_said(container)}",
        where=container.fence.command[0],
        remedy="say which port it has with --port, or give it longer with --wait",
    )


def _ended(status: int | None) -> str:
    if status is not None and status < 0:
        name = next((one.name for one in signal.Signals if one == -status), -status)
        return f"signal {name}"
    return f"status {status}"


def _said(container: Container) -> str:
    lines = container.output.finish(0.2).decode("utf-8", "replace").strip().splitlines()
    worst = [line for line in lines if _COMPLAINT.search(line)] or lines
    return f' (it said: "{worst[-1][:300]}")' if lines else ""


def _reload(container: Container, plan: Plan) -> tuple[Answer, ...] | None:
    """SIGHUP to a service that handles it, and the exercise's requests again."""
    if not hears(container.pid, signal.SIGHUP):
        return None
    container.signal(signal.SIGHUP)
    time.sleep(SETTLED)
    if container.wait(SETTLED) is not None:
        raise InputError(
            f"the service ended with {_ended(container.status)} on SIGHUP{_said(container)}",
            where=container.fence.command[0],
        )
    again = Exercise(requests=plan.exercise.requests)
    return perform(again, container.pid)


def _stop(container: Container, plan: Plan) -> int | None:
    """Its exit status; None where it does not stop."""
    number = stop_signal(plan.stop, "the service")
    if container.poll() is None and not hears(container.pid, number):
        return None
    container.signal(number)
    return container.wait(plan.stopping)
