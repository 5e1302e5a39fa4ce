"""What QEMU writes on standard error: its trace, resets of the processor, and why it gives up."""

from __future__ import annotations

import asyncio
import os
import re

from ringfence.guest.devices import Accesses

MOST_TRACE = 300_000
"""Trace lines counted in one phase: a guest that does nothing but touch devices is cut short."""
_CHUNK = 1 << 16
_MOST_LINE = 4096
_KEPT = 16
_STATE = re.compile(rb"^(?:[A-Z0-9]{2,5} *=|CPU Reset|CCS=|DR[0-7]=|[XYZ]MM|FPR|[ER]IP=|[ER]\w\w=)")


class Output:
    """Reads QEMU's standard error as it comes, with a bound on all that is kept."""

    def __init__(self, handle: int) -> None:
        self.accesses = Accesses()
        self.traced = 0
        """Trace lines of the current phase."""
        self.cut = False
        """Whether any phase had more trace lines than were counted."""
        self.triple_fault = False
        self.said: list[str] = []
        """The last lines that are neither trace nor registers: QEMU's own complaints."""
        self._handle = handle
        self._rest = b""
        os.set_blocking(handle, False)

    def start(self) -> None:
        """Read whenever there is something, on the running loop."""
        asyncio.get_running_loop().add_reader(self._handle, self._ready)

    def stop(self) -> None:
        """Read what is there still, and no more."""
        asyncio.get_running_loop().remove_reader(self._handle)
        while self._ready():
            pass

    def serve(self) -> None:
        """The guest has settled: its accesses count as serving from here on."""
        self.accesses.serve()
        self.traced = 0

    @property
    def flooded(self) -> bool:
        """Whether this phase has had more trace lines than are counted."""
        return self.traced > MOST_TRACE

    def _ready(self) -> bool:
        try:
            data = os.read(self._handle, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._handle)
            return False
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_MOST_LINE:]
        for line in lines:
            self._line(line)
        return True

    def _line(self, line: bytes) -> None:
        if line.startswith(b"memory_region_ops_"):
            self.traced += 1
            if self.flooded:
                self.cut = True
            else:
                self.accesses.count(line)
        elif line == b"Triple fault":
            self.triple_fault = True
        elif line and not _STATE.match(line):
            self.said.append(line[:_MOST_LINE].decode("utf-8", "replace"))
            del self.said[:-_KEPT]
