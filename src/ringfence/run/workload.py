"""One fenced workload in the foreground: started, its refusals reported, its end waited for."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import msgspec

from ringfence.run.engine import Container, EngineError
from ringfence.run.engines import CONTAINERS
from ringfence.run.listening import listening
from ringfence.run.notify import Listener, notifying
from ringfence.run.phases import PhaseFailed, tighten
from ringfence.run.places import reachable_folder
from ringfence.run.publish import Published, Publisher
from ringfence.run.result import Ready
from ringfence.run.tracing import strace
from ringfence.run.watchdog import guarded

PATIENCE = 10.0
"""Seconds between the stop signal and SIGKILL, as engines have it."""
PASSED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def run_workload(
    workload: Ready,
    ports: tuple[Published, ...],
    engines: tuple[str, ...],
    say: Callable[[str], None],
    started: Callable[[Container], None] | None = None,
    trace: Path | None = None,
) -> int:
    """Run until it ends; its exit status (128 and the signal's number where one ended it).

    `engines` are tried in turn. `say` is given lines for the person at the terminal; the
    service's own output goes to standard output. `started` is called once it runs. `trace` is a
    folder for strace's log of all that it does.
    """
    publisher = Publisher(ports)
    with contextlib.ExitStack() as stack:
        stack.callback(publisher.close)
        container = _launched(workload, engines, say, stack, trace)
        publisher.serve(container.pid)
        _signals(container, signal.Signals[workload.signal])
        if started is not None:
            started(container)
        if workload.serving is not None:
            _tighten_when_up(container, workload, say)
        return _until_end(container)


def _launched(
    workload: Ready,
    engines: tuple[str, ...],
    say: Callable[[str], None],
    stack: contextlib.ExitStack,
    trace: Path | None,
) -> Container:
    """The container, in the first engine that starts it. Raises the last one's EngineError."""
    for engine, following in zip(engines, (*engines[1:], ""), strict=True):
        attempt = contextlib.ExitStack()
        try:
            container = _container(workload, engine, say, attempt)
            if trace is None:
                container.launch()
            else:
                container.create()
                attempt.enter_context(strace(container.pid, trace))
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
        return container
    raise EngineError("no engine to try")


def _container(
    workload: Ready, engine: str, say: Callable[[str], None], stack: contextlib.ExitStack
) -> Container:
    """Not started yet, with a listener for what is refused; `stack` removes it all."""
    folder = reachable_folder()
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    listener = Listener(folder / "refused.sock", lambda name, pid: say(_refusal(name, pid)))
    stack.callback(listener.close)
    filters = notifying(workload.fence.seccomp or {}, listener.path)
    fence = msgspec.structs.replace(workload.fence, seccomp=filters)
    container = CONTAINERS[engine](fence, folder, engine, _forward)
    stack.enter_context(guarded(container, folder))
    stack.callback(container.remove)
    return container


def _refusal(name: str, pid: int) -> str:
    return (f"the fence refused {name} to process {pid}; if the service needs it: "
            f"ringfence harden ... --allow '{name}'")  # fmt: skip


def _forward(part: bytes) -> None:
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()


def _signals(container: Container, stop: signal.Signals) -> None:
    """Ours become the service's: the terminal's and the service manager's wishes alike."""

    def end(number: int, frame: FrameType | None) -> None:
        container.signal(stop)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def kill(number: int, frame: FrameType | None) -> None:
        container.signal(signal.SIGKILL)

    def pass_on(number: int, frame: FrameType | None) -> None:
        container.signal(signal.Signals(number))

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGALRM, kill)
    for number in PASSED_ON:
        signal.signal(number, pass_on)


def _tighten_when_up(container: Container, workload: Ready, say: Callable[[str], None]) -> None:
    """Once all declared ports listen. Here and not in a thread of its own: wherever we wait for
    the container, we would take its stops away from the thread that traces it."""
    while container.wait(0.01) is None:
        if set(workload.ports) <= listening(container.pid):
            try:
                tighten(container.pid, workload.serving or {})
            except PhaseFailed as failure:
                say(f"the serving phase keeps the first filter: {failure.line()}")
            return


def _until_end(container: Container) -> int:
    status: int | None = None
    while status is None:
        status = container.wait(3600.0)
    container.output.finish()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return 128 - status if status < 0 else status
