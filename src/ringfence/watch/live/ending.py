"""Why a run ends. SIGTERM and Ctrl-C are noted while it lasts, so that nothing is cut short.

A handler that raised would do so anywhere: between the taking of a lock and the block that lets go
of it, or while a process was started that nobody would end.
"""

from __future__ import annotations

import os
import signal
import socket
from types import TracebackType
from typing import Self

FAILED = "failed"


class Ending:
    """A context manager. `reason` is '' until the run is to end: the name of the first signal that
    came, or what the run itself puts there. `fd` is readable when a signal came."""

    def __init__(self) -> None:
        self.reason = ""
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self.fd = self._reading.fileno()

    def __enter__(self) -> Self:
        signals = (signal.SIGTERM, signal.SIGINT)
        self._former = {number: signal.signal(number, self._note) for number in signals}
        self._wakeup = signal.set_wakeup_fd(self._writing.fileno())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._reading.close()
        self._writing.close()

    @property
    def failed(self) -> bool:
        """Of a run that has ended: whether nobody wanted that."""
        return self.reason in ("", FAILED)

    def woken(self) -> None:
        """Take what made `fd` readable."""
        os.read(self.fd, 64)

    def _note(self, number: int, _: object) -> None:
        self.reason = self.reason or signal.Signals(number).name
