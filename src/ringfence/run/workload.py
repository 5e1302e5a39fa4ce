"""One fenced workload in the foreground: started, its refusals reported, its end waited for."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from ringfence.errors import RingfenceError
from ringfence.run.audited import Record, audited
from ringfence.run.engine import Container, EngineError
from ringfence.run.engines import CONTAINERS
from ringfence.run.hearing import hears
from ringfence.run.listening import listening
from ringfence.run.notify import Listener, notifying
from ringfence.run.phases import tighten
from ringfence.run.places import reachable_folder
from ringfence.run.publish import Published, Publisher
from ringfence.run.result import Ready
from ringfence.run.tracing import Tracer, strace
from ringfence.run.watchdog import guarded

PATIENCE = 10.0
"""Seconds between the stop signal and SIGKILL, as engines have it."""
DEAF = 1.0
"""The same where the service has no handler for the signal, so that the kernel drops it."""
PASSED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def run_workload(
    workload: Ready,
    ports: tuple[Published, ...],
    engines: tuple[str, ...],
    say: Callable[[str], None],
    record: Record = lambda kind, subject, detail: None,
    trace: Path | None = None,
    *,
    audit: bool = False,
) -> int:
    """Run until it ends; its exit status (128 and the signal's number where one ended it).

    `engines` are tried in turn. `say` is given lines for the person at the terminal; the
    service's own output goes to standard output. `record` is given (kind, subject, detail) of what
    the ledger should keep. `trace` is a folder for strace's log of all that it does.
    `audit`: the kernel's own words about its processes are recorded, too.
    """
    publisher = Publisher(ports)
    with contextlib.ExitStack() as stack:
        stack.callback(publisher.close)

        def refused(name: str, pid: int) -> None:
            _refused(workload, name, pid, say, record)

        container, listener, tracer = _launched(workload, engines, say, refused, stack, trace)
        auditing = stack.enter_context(contextlib.ExitStack())
        if audit:
            keep = _keeping(say, record)
            auditing.enter_context(audited(container.pid, workload.name, keep))
        # Before anybody can be answered: who was, may ask for the end.
        _signals(container, workload.signal)
        if trace is None:
            container.forbid_memory_programs()
        publisher.serve(container.pid)  # only now: whoever comes in meets the whole fence
        record("run", workload.name, {"event": "started", "engine": container.engine,
                                      "pid": container.pid, "digest": workload.digest})  # fmt: skip
        if workload.serving is not None and _tighten_when_up(
            container, workload, listener, say, tracer
        ):
            record("policy", workload.name, {"event": "narrower filter", "pid": container.pid})
        status = _until_end(container)
        listener.settle()  # the ledger keeps the order of things
        auditing.close()
        record("run", workload.name, {"event": "ended", "status": status})
        return status


def _launched(
    workload: Ready,
    engines: tuple[str, ...],
    say: Callable[[str], None],
    refused: Callable[[str, int], None],
    stack: contextlib.ExitStack,
    trace: Path | None,
) -> tuple[Container, Listener, Tracer | None]:
    """The container, in the first engine that starts it, and who listens to its filter. Raises the
    last one's EngineError."""
    tracer = None
    for engine, following in zip(engines, (*engines[1:], ""), strict=True):
        attempt = contextlib.ExitStack()
        try:
            container, listener = _container(workload, engine, refused, attempt)
            if trace is None:
                container.launch()
            else:
                container.create()
                tracer = attempt.enter_context(strace(container.pid, trace))
                container.start()
        except EngineError as error:
            attempt.close()
            if not following:
                raise
            say(f"{error.line()}: trying {following}")
            continue
        except BaseException:
            attempt.close()
            raise
        stack.push(attempt)
        return container, listener, tracer
    raise EngineError("no engine to try")


def _container(
    workload: Ready,
    engine: str,
    refused: Callable[[str, int], None],
    stack: contextlib.ExitStack,
) -> tuple[Container, Listener]:
    """Not started yet, with a listener for what is refused; `stack` removes it all."""
    folder = reachable_folder()
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    listener = Listener(folder / "refused.sock", refused)
    stack.callback(listener.close)
    filters = notifying(workload.fence.seccomp or {}, listener.path)
    fence = msgspec.structs.replace(workload.fence, seccomp=filters)
    container = CONTAINERS[engine](fence, folder, engine, _forward)
    stack.enter_context(guarded(container, folder))
    stack.callback(container.remove)
    return container, listener


def _refused(
    workload: Ready,
    name: str,
    pid: int,
    say: Callable[[str], None],
    record: Record,
) -> None:
    """A call that the fence refused for the first time: said, and kept. A ledger that cannot take
    it (a full disk) is said, too, and where nobody hears, nothing is: the fence holds all the
    same."""
    with contextlib.suppress(OSError):
        say(_refusal(name, pid))
    _keeping(say, record)("denial", workload.name, {"call": name, "pid": pid, "by": "seccomp"})


def _keeping(say: Callable[[str], None], record: Record) -> Record:
    """As `record`, but what cannot be kept is said."""

    def keep(kind: str, subject: str, detail: dict[str, Any]) -> None:
        try:
            record(kind, subject, detail)
        except RingfenceError as error:
            with contextlib.suppress(OSError):
                say(f"not in the ledger: {error.line()}")

    return keep


def _refusal(name: str, pid: int) -> str:
    return (f"the fence refused {name} to process {pid}; if the service needs it: "
            f"ringfence harden ... --allow '{name}'")  # fmt: skip


def _forward(part: bytes) -> None:
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()


def _signals(container: Container, stop: int) -> None:
    """Ours become the service's: the terminal's and the service manager's wishes alike."""

    def end(number: int, frame: FrameType | None) -> None:
        heard = hears(container.pid, stop)
        container.signal(stop)
        if not signal.getitimer(signal.ITIMER_REAL)[0]:  # a further one postpones nothing
            signal.setitimer(signal.ITIMER_REAL, PATIENCE if heard else DEAF)

    def kill(number: int, frame: FrameType | None) -> None:
        container.signal(signal.SIGKILL)

    def pass_on(number: int, frame: FrameType | None) -> None:
        container.signal(number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGALRM, kill)
    for number in PASSED_ON:
        signal.signal(number, pass_on)


def _tighten_when_up(
    container: Container,
    workload: Ready,
    listener: Listener,
    say: Callable[[str], None],
    tracer: Tracer | None,
) -> bool:
    """Once all declared ports listen; whether it could be. Here and not in a thread of its own:
    wherever we wait for the container, we would take its stops away from the thread that traces
    it."""
    while container.wait(0.01) is None:
        if set(workload.ports) <= listening(container.pid):
            try:
                with tracer.paused() if tracer is not None else contextlib.nullcontext():
                    tighten(container.pid, workload.serving or {}, listener)
            except RingfenceError as failure:
                if container.poll() is None:  # and was not stopped meanwhile
                    say(f"the serving phase keeps the first filter: {failure.line()}")
                    if not listener.hears:
                        say("what the first filter refuses is not told any more")
                return False
            return True
    return False


def _until_end(container: Container) -> int:
    status: int | None = None
    while status is None:
        status = container.wait(3600.0)
    container.output.finish()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return 128 - status if status < 0 else status
