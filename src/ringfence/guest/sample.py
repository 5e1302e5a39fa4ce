"""Samples of a running guest: its processor many times, its page tables where they are new."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

from ringfence.guest import steady
from ringfence.guest.console import Console
from ringfence.guest.devices import EVENTS
from ringfence.guest.memory import Memory, pieces
from ringfence.guest.monitor import Monitor
from ringfence.guest.observation import Look, Phase, Placed, Walked
from ringfence.guest.output import Output
from ringfence.guest.paging import Tables
from ringfence.guest.regions import place, space, tables
from ringfence.guest.registers import Registers

MOST_SPACES = 8
"""Address spaces summed up in one phase."""
MOST_PLACES = 4
"""Samples of each ring, running or halted, whose regions are looked for in one phase."""
_PAUSE = 0.004
"""Seconds between two samples, drawn around this so that no guest's own clock keeps step."""


class Sampler:
    """One boot under observation. `started` is time.monotonic() at QEMU's start."""

    def __init__(
        self, monitor: Monitor, memory: Memory, console: Console, output: Output, started: float
    ) -> None:
        self.monitor = monitor
        self.output = output
        self.looks: list[Look] = []
        self.spaces: list[Walked] = []
        self.places: list[Placed] = []
        self.phase = Phase.BOOTING
        self._memory = memory
        self._console = console
        self._started = started
        self._walked: set[tuple[Phase, tuple[int, ...], int]] = set()
        self._placed: Counter[tuple[Phase, int, bool]] = Counter()
        self._cut = False

    @property
    def elapsed(self) -> float:
        """Seconds since QEMU's start."""
        return time.monotonic() - self._started

    async def look(self) -> Look:
        """One sample. Raises Ended."""
        registers = await self.monitor.look(self._inspect)
        found = Look(self.phase, self.elapsed, registers, self._console.said)
        self.looks.append(found)
        await self._bound_trace()
        return found

    async def pause(self, seconds: float = _PAUSE) -> None:
        """Let the guest run for about that long."""
        await asyncio.sleep(random.uniform(0.5, 1.5) * seconds)  # noqa: S311 - no secret

    async def post_mortem(self) -> None:
        """One sample of a guest that has stopped by itself: its state is still there."""
        registers = await self.monitor.standing()
        await self._find_memory()
        self._inspect(registers)
        self.looks.append(Look(self.phase, self.elapsed, registers, self._console.said))

    async def enter(self, phase: Phase) -> None:
        """The next phase begins: memory may have moved, accesses are counted apart."""
        await self._find_memory()
        if self.phase is Phase.BOOTING:
            self.output.serve()
            if self._cut:
                await self._trace(True)
        self.phase = phase

    async def _find_memory(self) -> None:
        self._memory.pieces = pieces(await self.monitor.text("info mtree -f"))

    def forget(self) -> None:
        """What the current phase has shown so far does not count."""
        now = self.phase
        self.looks = [one for one in self.looks if one.phase is not now]
        self.spaces = [one for one in self.spaces if one.phase is not now]
        self.places = [one for one in self.places if one.phase is not now]
        self._walked = {walk for walk in self._walked if walk[0] is not now}
        self._placed = Counter({kind: n for kind, n in self._placed.items() if kind[0] is not now})

    async def settle(self, limit: float, known: float | None) -> float | None:
        """Sample until the guest has come up: the seconds that took, None after `limit` seconds.

        `known`: after how many seconds an earlier boot of the same image, which never halted, did
        nothing new any more.
        """
        while self.elapsed < limit:
            await self.look()
            if steady.idle(self.looks) or self._busy(known):
                return self.elapsed
            await self.pause(5 * _PAUSE)
        return None

    def _busy(self, known: float | None) -> bool:
        if known is None:
            return steady.busy(self.looks)
        late = self.elapsed >= known + steady.KNOWN_BUSY
        return late and steady.busy(self.looks, steady.KNOWN_BUSY)

    def _inspect(self, registers: Registers) -> None:
        """While the machine stands still: its page tables, if this sample is of a new kind."""
        if self.phase is Phase.BOOTING and not self.monitor.ending:
            return
        walk = (self.phase, registers.space, registers.ring)
        kind = (self.phase, registers.ring, registers.halted)
        new = walk not in self._walked and len(self._walked_now()) < MOST_SPACES
        if not new and self._placed[kind] >= MOST_PLACES:
            return
        found = tables(self._memory.read, registers)
        if found is None:
            return
        if new:
            self._walked.add(walk)
            self.spaces.append(Walked(self.phase, space(found, registers)))
        self._place(found, registers)

    def _walked_now(self) -> list[tuple[Phase, tuple[int, ...], int]]:
        return [walk for walk in self._walked if walk[0] is self.phase]

    def _place(self, found: Tables, registers: Registers) -> None:
        kind = (self.phase, registers.ring, registers.halted)
        if self._placed[kind] < MOST_PLACES:
            self._placed[kind] += 1
            where = place(found, registers)
            self.places.append(Placed(self.phase, registers.ring, registers.halted, where))

    async def _bound_trace(self) -> None:
        """A guest that does nothing but touch devices would leave no time to look at it."""
        if self.output.flooded and not self._cut:
            await self._trace(False)

    async def _trace(self, on: bool) -> None:
        for event in EVENTS:
            await self.monitor.ask("trace-event-set-state", name=event, enable=on)
        self._cut = not on
