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

MOST_SPACES = 256
"""Address spaces summed up in one phase, each with the rights that the processor has then."""
MOST_PLACES = 4
"""Samples of each ring, running or halted, whose regions are looked for in one phase, besides those
whose page tables are summed up."""
AGAIN = 0.25
"""Seconds after which an address space is summed up once more: rights change under load."""
MOST_WALK, MOST_MORTEM = 2.0, 20.0
"""Seconds for one look at page tables, in which the guest stands still; and for that at one which
has stopped by itself, and waits for nothing."""
NEW_SHARE, AGAIN_SHARE = 0.5, 0.25
"""Of a boot's time, what may go into looks at new page tables, and at those that are known."""
GRACE = 1.0
"""Seconds after its limit in which a boot's last samples are taken."""
LAST = 8
"""Samples at a boot's end, for which no page tables count as known."""
_PAUSE = 0.004
"""Seconds between two samples, drawn around this so that no guest's own clock keeps step."""

_Kind = tuple[Phase, tuple[int, ...], frozenset[int]]
"""When, which address space, and which rights let code run: those of all pages change with EFER."""


class Sampler:
    """One boot under observation. `started` is time.monotonic() at QEMU's start, `limit` how many
    seconds the boot may take."""

    def __init__(
        self, monitor: Monitor, memory: Memory, console: Console, output: Output, started: float,
        limit: float,
    ) -> None:  # fmt: skip
        self.monitor = monitor
        self.output = output
        self.looks: list[Look] = []
        self.spaces: list[Walked] = []
        self.places: list[Placed] = []
        self.phase = Phase.BOOTING
        self._memory = memory
        self._console = console
        self._started = started
        self._end = started + limit + GRACE
        self._walked: dict[_Kind, float] = {}
        self._walking = 0.0
        self._placed: Counter[tuple[Phase, int, bool]] = Counter()
        self._cut = False

    @property
    def elapsed(self) -> float:
        """Seconds since QEMU's start."""
        return time.monotonic() - self._started

    @property
    def over(self) -> bool:
        """Whether the boot's time is over, with what was granted for its last samples."""
        return time.monotonic() >= self._end

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

    async def watch(self, looks: int) -> None:
        """So many samples of the guest left to itself; fewer, but one, where time is over."""
        for _ in range(looks):
            await self.look()
            if self.over:
                break
            await self.pause()

    async def last(self) -> None:
        """The phase's last samples: what rights have become by now, whatever was seen before."""
        self._forget_walks()
        await self.watch(LAST)

    async def post_mortem(self) -> None:
        """One sample of a guest that has stopped by itself: its state is still there."""
        registers = await self.monitor.standing()
        self._forget_walks()
        await self._find_memory()
        self._examine(registers, MOST_MORTEM)
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
        self._walked = {walk: at for walk, at in self._walked.items() if walk[0] is not now}
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
        if self.phase is not Phase.BOOTING or self.monitor.ending:
            self._examine(registers, MOST_WALK)

    def _examine(self, registers: Registers, most: float) -> None:
        """While the machine stands still: its page tables, if this sample is of a new kind, or it
        is time to see what has become of them. `most` seconds for that."""
        begun = time.monotonic()
        walk = (self.phase, registers.space, registers.code)
        due = self._due(walk)
        if not due and not self._unplaced(registers):
            return
        until = min(begun + most, self._end)
        found = tables(self._memory.read, registers, until)
        if found is None:
            return
        if due:
            self._walked[walk] = self.elapsed
            self.spaces.append(Walked(self.phase, space(found, registers)))
        self._place(found, registers)
        self._walking += time.monotonic() - begun

    def _due(self, walk: _Kind) -> bool:
        """Whether these page tables are to be summed up now. Those that never are for want of time
        are told by the samples, which name them all."""
        last = self._walked.get(walk)
        if last is not None:
            return self.elapsed - last >= AGAIN and self._affordable(AGAIN_SHARE)
        count = sum(one[0] is self.phase for one in self._walked)
        return count < MOST_SPACES and self._affordable(NEW_SHARE)

    def _unplaced(self, registers: Registers) -> bool:
        kind = (self.phase, registers.ring, registers.halted)
        return self._placed[kind] < MOST_PLACES and self._affordable(NEW_SHARE)

    def _affordable(self, share: float) -> bool:
        """A guest whose tables take long to walk must get time to run, too."""
        return self._walking <= share * self.elapsed

    def _forget_walks(self) -> None:
        """All page tables are new, and what it took to walk them does not count."""
        self._walked = {}
        self._walking = 0.0

    def _place(self, found: Tables, registers: Registers) -> None:
        self._placed[self.phase, registers.ring, registers.halted] += 1
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
