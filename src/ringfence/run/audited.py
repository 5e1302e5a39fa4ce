"""What the kernel's audit says about a running workload, for the ledger, from a thread of its own:
what the fence refuses is heard by its listener, what kills a process or what a security module
refuses is not."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ringfence.watch.live.company import of_process
from ringfence.watch.live.denials import Denials
from ringfence.watch.live.execs import Execs
from ringfence.watch.live.told import Told, bounded

TICK = 0.2
PATIENCE = 5.0
"""Seconds at the end: what says that the ledger is full may be held up for ever."""
Record = Callable[[str, str, dict[str, Any]], None]


@contextlib.contextmanager
def audited(pid: int, name: str, record: Record) -> Iterator[None]:
    """Keep denials of the container whose first process is `pid`, while this lasts, or once that
    they may not be read. `record` may be called from another thread, and must not raise."""
    with contextlib.ExitStack() as stack:
        company = of_process(pid)
        execs = Execs(company.started)
        stack.callback(execs.close)
        denials = Denials(name, company)
        stack.callback(denials.close)
        if denials.fd < 0:
            started = denials.started()
            record(started.kind, started.subject, started.detail)
            yield
            return
        reading = _Reading(denials, execs, record)
        stack.callback(reading.end)
        yield


class _Reading:
    """The thread."""

    def __init__(self, denials: Denials, execs: Execs, record: Record) -> None:
        self._denials, self._execs, self._record = denials, execs, record
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Keep what was said up to now; end it."""
        self._ending.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._denials.fd, select.POLLIN)
        if self._execs.fd >= 0:
            poll.register(self._execs.fd, select.POLLIN)
        while not self._ending.is_set():
            poll.poll(TICK * 1000)
            self._keep(self._read())
            self._keep(self._denials.repeated(blind=self._execs.fd < 0))
        self._keep(self._read(last=True))
        self._keep(self._denials.repeated(last=True))

    def _read(self, *, last: bool = False) -> list[Told]:
        if self._execs.fd >= 0:
            self._execs.read()
        return self._denials.read(last=last)

    def _keep(self, found: list[Told]) -> None:
        for told in map(bounded, found):
            # Its listener told of these already.
            if told.detail.get("action") != "user_notif":
                self._record(told.kind, told.subject, told.detail)
