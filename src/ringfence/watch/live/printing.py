"""Lines for whoever reads standard output, from a thread of their own: a reader that stalls (a
pager, Ctrl-S at a terminal) holds up nobody who watches."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TextIO

from ringfence.errors import InputError
from ringfence.watch.whole import write_all

MOST_LINES = 10_000
"""Lines that wait. Where a ledger has them all, more are left out and counted; where nothing else
has them, whoever brings more waits."""
PATIENCE = 2.0
"""Seconds that a reader has for what is left at the end."""
STEP = 0.25


class Printer:
    """Prints to `stream` in order. `spare`: lines may be left out, for something else has them all;
    `stopping` says when nobody is waited for any more."""

    def __init__(self, stream: TextIO, spare: bool, stopping: Callable[[], bool]) -> None:
        self._spare = spare
        self._stopping = stopping
        self._lines: deque[str] = deque()
        self._left_out = 0
        self._turn = threading.Condition()
        self._ended = False
        self._busy = False
        self._failed: OSError | None = None
        self._stream = stream
        self._thread: threading.Thread | None = None

    def put(self, lines: Sequence[str]) -> None:
        """Have lines printed. Raises as `standing`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="printing", daemon=True)
            self._thread.start()
        with self._turn:
            for line in lines:
                if self._ended:
                    break
                while self._full() and not self._spare and not self._stopping():
                    self._turn.notify_all()
                    self._turn.wait(STEP)
                if self._full():
                    self._left_out += 1
                else:
                    self._lines.append(line)
            self._turn.notify_all()
        self.standing()

    def standing(self) -> None:
        """Raises InputError where lines failed to be printed that nothing else has."""
        if self._failed is not None and not self._spare:
            why = os.strerror(self._failed.errno or 0).lower()
            raise InputError(
                f"cannot be written: {why}", where="standard output",
                remedy="without --ledger nothing else has what is told",
            )  # fmt: skip

    def close(self) -> None:
        """Wait for what is left, not longer than `PATIENCE`. Raises as `standing`."""
        until = time.monotonic() + PATIENCE
        with self._turn:
            while (self._lines or self._busy) and time.monotonic() < until:
                self._turn.wait(STEP)
            self._ended = True
            self._turn.notify_all()
        self.standing()

    def _full(self) -> bool:
        return len(self._lines) >= MOST_LINES

    def _run(self) -> None:
        # Not through the stream: a thread that is held up there would hold its lock at the end.
        handle, encoding = self._stream.fileno(), self._stream.encoding
        while (text := self._next()) is not None:
            try:
                write_all(handle, text.encode(encoding, "backslashreplace"))
            except OSError as error:  # whoever read our lines has gone, or a disk is full
                self._failed = error
                break
        with self._turn:
            self._ended, self._busy = True, False
            self._lines.clear()
            self._turn.notify_all()

    def _next(self) -> str | None:
        """All lines that wait, and then how many were left out after them; None at the end."""
        with self._turn:
            self._busy = False
            self._turn.notify_all()
            while not self._lines and not self._ended:
                self._turn.wait()
            if self._ended:
                return None
            lines = [*self._lines]
            self._lines.clear()
            if self._left_out:
                where = ": the ledger has them" if self._spare else ""
                lines.append(f"{self._left_out} more were not printed{where}")
                self._left_out = 0
            self._busy = True
            self._turn.notify_all()
            return "".join(f"{line}\n" for line in lines)
