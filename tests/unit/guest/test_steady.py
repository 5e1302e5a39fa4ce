"""When a guest counts as up: samples of idle, busy and booting guests."""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.guest.observation import Look, Phase
from ringfence.guest.steady import BUSY, KNOWN_BUSY, QUIET, busy, idle
from tests.unit.guest.tables import registers

STEP = 0.02


def looks(ips: Iterable[int], *, halted: bool = False, said: int = 0, step: float = STEP,
          ) -> list[Look]:  # fmt: skip
    return [
        Look(Phase.BOOTING, number * step, registers(ip, halted=halted), said * number)
        for number, ip in enumerate(ips)
    ]


def test_an_idle_guest_halts() -> None:
    waiting = looks([0x1000] * 40, halted=True)
    assert idle(waiting)
    assert not idle(looks([0x1000] * 40))


def test_one_that_still_talks_is_not_idle() -> None:
    assert not idle(looks([0x1000] * 40, halted=True, said=3))


def test_an_idle_moment_is_not_enough() -> None:
    few = int(QUIET / STEP)
    assert not idle(looks([0x1000] * few, halted=True))
    assert not idle(looks([0x1000] * 4, halted=True, step=1.0))
    assert not idle([])


def test_a_loop_is_busy_and_a_boot_is_not() -> None:
    count = int(BUSY / STEP) + 5
    assert busy(looks([0x1000 + number % 7 for number in range(count)]))
    assert not busy(looks([0x1000 * number for number in range(count)]))
    assert not busy(looks([0x1000] * (count // 2)))


def test_a_boot_that_comes_to_a_loop_is_busy_after_a_while() -> None:
    booting = [0x1000 * number for number in range(200)]
    loop = [0x5000000] * int(BUSY / STEP)
    assert not busy(looks([*booting, *loop[:30]]))
    assert busy(looks([*booting, *loop, *loop[:5]]))
    assert busy(looks([*booting, *loop[:30]]), KNOWN_BUSY)


def test_another_ring_or_vector_table_is_something_new() -> None:
    count = int(BUSY / STEP) + 5
    later = [
        Look(Phase.BOOTING, number * STEP, registers(0x1000, cpl=3 if number > 70 else 0), 0)
        for number in range(count)
    ]
    assert not busy(later)
