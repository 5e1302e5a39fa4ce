"""When page tables are looked at: new ones, known ones again, at the end; and within what time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from ringfence.guest import sample
from ringfence.guest.observation import Phase
from ringfence.guest.registers import Registers
from ringfence.guest.sample import Sampler
from tests.unit.guest.tables import NX, PRESENT, WRITABLE, Physical, registers


class Machine:
    """Stands for QEMU's monitor, the guest's memory, its serial line and the trace: each sample
    shows the next of `states`, over and over."""

    ending = ""
    said = 0
    flooded = False

    def __init__(self, memory: Physical, states: list[Registers]) -> None:
        self.read = memory.read
        self.pieces: tuple[Any, ...] = ()
        self._states = states
        self._next = 0

    def serve(self) -> None:
        """The trace begins to count anew."""

    async def text(self, command: str) -> str:
        """No memory map: `read` needs none."""
        return ""

    async def look(self, inspect: Callable[[Registers], None]) -> Registers:
        """One state, inspected."""
        state = self._states[self._next % len(self._states)]
        self._next += 1
        inspect(state)
        return state


def sampler(memory: Physical, *states: Registers, elapsed: float = 5, limit: float = 60) -> Sampler:
    """A boot that has gone on for so long, its guest left to itself from now on."""
    machine: Any = Machine(memory, list(states))
    found = Sampler(machine, machine, machine, machine, time.monotonic() - elapsed, limit)
    asyncio.run(found.enter(Phase.BEFORE))
    return found


def plain() -> Physical:
    memory = Physical()
    memory.map(0x400000, 0x100000, PRESENT)
    memory.map(0x500000, 0x200000, PRESENT | WRITABLE | NX)
    return memory


def worst(found: Sampler) -> int:
    return max(one.space.both for one in found.spaces)


def test_rights_that_change_are_seen_at_the_next_look_that_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = plain()
    found = sampler(memory, registers(0x400000, 0x500800))
    asyncio.run(found.watch(3))
    memory.map(0x600000, 0x300000, PRESENT | WRITABLE)
    asyncio.run(found.watch(3))
    assert (len(found.spaces), worst(found)) == (1, 0)
    monkeypatch.setattr(sample, "AGAIN", 0.0)
    asyncio.run(found.watch(1))
    assert (len(found.spaces), worst(found)) == (2, 1)


def test_the_last_samples_take_no_page_tables_for_known() -> None:
    memory = plain()
    found = sampler(memory, registers(0x400000, 0x500800))
    asyncio.run(found.watch(1))
    memory.map(0x500000, 0x200000, PRESENT | WRITABLE)
    asyncio.run(found.last())
    assert (len(found.spaces), worst(found)) == (2, 1)
    stacks = [one.place.stack for one in found.places if one.place.stack is not None]
    assert stacks[0].rights != stacks[-1].rights


def test_no_execute_turned_off_makes_known_tables_new() -> None:
    states = [registers(0x400000, 0x500800, nx=on) for on in (True, False)]
    found = sampler(plain(), *states)
    asyncio.run(found.watch(2))
    assert [one.space.both for one in found.spaces] == [0, 1]


def test_every_address_space_is_walked_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = plain()
    states = [registers(root=0x1000 if not number else memory.table()) for number in range(20)]
    found = sampler(memory, *states)
    asyncio.run(found.watch(20))
    assert len(found.spaces) == 20
    monkeypatch.setattr(sample, "MOST_SPACES", 8)
    fewer = sampler(memory, *states)
    asyncio.run(fewer.watch(20))
    assert (len(fewer.looks), len(fewer.spaces)) == (20, 8)


def test_one_look_is_taken_after_the_end_of_time_and_walks_nothing() -> None:
    late = sampler(plain(), registers(), elapsed=30, limit=5)
    asyncio.run(late.watch(100))
    assert len(late.looks) == 1
    assert [one.space.complete for one in late.spaces] == [False]
    early = sampler(plain(), registers(), elapsed=5, limit=30)
    asyncio.run(early.watch(10))
    assert len(early.looks) == 10 and early.spaces[0].space.complete


def test_a_walk_of_slow_tables_ends_and_leaves_the_guest_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = Physical()
    for number in range(500):
        memory.map(number << 21, 0x100000, PRESENT)
    swift, monkey = memory.read, monkeypatch

    def slow(address: int, length: int) -> bytes | None:
        time.sleep(0.005)
        return swift(address, length)

    monkey.setattr(memory, "read", slow)
    monkey.setattr(sample, "MOST_WALK", 0.1)
    monkey.setattr(sample, "AGAIN", 0.0)
    found = sampler(memory, registers(), elapsed=0.1)
    begun = time.monotonic()
    asyncio.run(found.watch(20))
    assert 1 <= len(found.spaces) < 10
    assert not found.spaces[0].space.complete
    assert time.monotonic() - begun < 1.5
