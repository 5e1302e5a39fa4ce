"""Hands committed records to sinks from threads of their own, and says in the ledger when one
fails: nothing that a sink does can block an append or take a record away.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ringfence.errors import InputError
from ringfence.watch.ledger.record import Kind, Record
from ringfence.watch.ledger.sinks.sink import Sink

MOST_WAITING = 10_000
"""Records that wait for a slow sink; more are lost to it, and counted."""
MOST_AT_ONCE = 500
QUIET = 5.0
"""Seconds without a failure before a sink is said to work again."""
SETTLE = 3.0
"""Seconds for what still waits when the ledger is closed."""

Append = Callable[[str, str, dict[str, Any]], int]


class Delivery:
    """All sinks of one open ledger."""

    def __init__(self, sinks: Sequence[Sink], append: Append) -> None:
        """Starts one thread for each sink. `append` is the ledger's."""
        self._workers = [_Worker(sink, append) for sink in sinks]

    def offer(self, records: Sequence[Record]) -> None:
        """Send these when each sink has time; returns at once."""
        for worker in self._workers:
            worker.offer(records)

    def settle(self) -> None:
        """Wait a little until all is sent, and note in the ledger what was lost so far."""
        deadline = time.monotonic() + SETTLE
        for worker in self._workers:
            worker.drain(deadline)
            worker.report()

    def close(self) -> None:
        """Send what is left if that is quick; end the threads."""
        deadline = time.monotonic() + SETTLE
        for worker in self._workers:
            worker.drain(deadline)
            worker.end()


class _Worker:
    """One sink, its queue and its thread."""

    def __init__(self, sink: Sink, append: Append) -> None:
        self._sink = sink
        self._append = append
        self._waiting: queue.Queue[Record | None] = queue.Queue(MOST_WAITING)
        self._failing = False
        self._failed_at = 0.0
        self._lost = 0
        self._first_lost = -1
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)
        self._thread.start()

    def offer(self, records: Sequence[Record]) -> None:
        for record in records:
            # What is said of sinks goes to none: two failing ones would answer each other for ever.
            if record.kind == Kind.LEDGER and record.subject.startswith("sink:"):
                continue
            try:
                self._waiting.put_nowait(record)
            except queue.Full:
                self._count([record])

    def drain(self, deadline: float) -> None:
        """Wait until everything offered has been tried."""
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)

    def end(self) -> None:
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(SETTLE)

    def report(self) -> None:
        """Note what this sink did not get."""
        with self._guard:
            lost, first = self._lost, self._first_lost
            self._lost, self._first_lost = 0, -1
        if lost:
            self._note({"state": "lost", "records": lost, "first": first})

    def _run(self) -> None:
        while True:
            batch, ended = self._next()
            if batch:
                self._send(batch)
            for _ in range(len(batch) + ended):
                self._waiting.task_done()
            if ended:
                with contextlib.suppress(Exception):
                    self._sink.close()
                return

    def _next(self) -> tuple[list[Record], bool]:
        """What waits now, at least one; and whether it is the end."""
        batch: list[Record] = []
        item = self._waiting.get()
        while item is not None:
            batch.append(item)
            if len(batch) == MOST_AT_ONCE or self._waiting.empty():
                return batch, False
            item = self._waiting.get()
        return batch, True

    def _send(self, batch: list[Record]) -> None:
        try:
            self._sink.send(batch)
        except Exception as error:
            # Also what no sink should raise: a thread that ends here loses all that comes, unsaid.
            self._count(batch)
            self._failed_at = time.monotonic()
            if not self._failing:
                self._failing = True
                self._note({"state": "failing", "why": _why(error)})
            return
        if self._failing and time.monotonic() - self._failed_at > QUIET:
            self._failing = False
            self.report()
            self._note({"state": "working"})

    def _count(self, records: Sequence[Record]) -> None:
        with self._guard:
            if not self._lost:
                self._first_lost = records[0].index
            self._lost += len(records)

    def _note(self, detail: dict[str, Any]) -> None:
        try:
            self._append(Kind.LEDGER, f"sink:{self._sink.name}", detail)
        except (InputError, ValueError):
            # Full or closed: whoever appends next is told, and nothing can be written here.
            return


def _why(error: Exception) -> str:
    """OSErrors speak for themselves; of others the words alone mean little."""
    text = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return text[:200]
