"""Workers: results in order, rests handed back, failures told, nothing left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ringfence.watch.baseline.pool import MOST_PACKET, Give, Pool, PoolError, Work


def sleeper() -> Work:
    def work(unit: bytes, give: Give) -> bytes:
        time.sleep(0.002 * (unit[0] % 5))
        return unit

    return work


def test_results_come_in_order() -> None:
    pool = Pool(4, sleeper)
    units = [bytes([number % 256]) * (1 + number % 9) for number in range(300)]
    try:
        assert list(pool.run(iter(units))) == units
    finally:
        pool.close()


def test_rests_are_done_in_their_place() -> None:
    def make() -> Work:
        def work(unit: bytes, give: Give) -> bytes:
            if unit[1:]:
                give(unit[1:])
            return unit[:1]

        return work

    pool = Pool(3, make)
    try:
        found = b"".join(pool.run(iter([b"abc", b"d", b"efgh"])))
    finally:
        pool.close()
    assert found == b"abcdefgh"


def test_a_rest_is_begun_while_the_first_part_is_still_being_done() -> None:
    """Each part waits for a sign of the next one, so no part could be done before it."""
    read, write = os.pipe()

    def make() -> Work:
        def work(unit: bytes, give: Give) -> bytes:
            if unit == b"ab":
                give(b"b")
                assert os.read(read, 1) == b"b"
                return b"a"
            if unit == b"b":
                os.write(write, unit)
            return unit

        return work

    pool = Pool(2, make)
    try:
        assert list(pool.run(iter([b"ab", b"c"]))) == [b"a", b"b", b"c"]
    finally:
        pool.close()
        os.close(read)
        os.close(write)


def test_large_units_and_large_results() -> None:
    pool = Pool(2, lambda: lambda unit, give: unit * 40)
    units = [bytes([number]) * (MOST_PACKET - 100) for number in range(20)]
    try:
        for unit, result in zip(units, pool.run(iter(units)), strict=True):
            assert result == unit * 40
    finally:
        pool.close()


def test_a_failure_is_told() -> None:
    def make() -> Work:
        def work(unit: bytes, give: Give) -> bytes:
            raise ValueError(unit)

        return work

    pool = Pool(2, make)
    try:
        with pytest.raises(PoolError, match="ValueError"):
            list(pool.run(iter([b"x"])))
    finally:
        pool.close()


def test_a_killed_worker_is_told_and_not_waited_for() -> None:
    def make() -> Work:
        def work(unit: bytes, give: Give) -> bytes:
            os.kill(os.getpid(), 9)
            return unit

        return work

    pool = Pool(2, make)
    try:
        with pytest.raises(PoolError, match="killed"):
            list(pool.run(iter([b"x", b"y"])))
    finally:
        pool.close()


def children() -> set[str]:
    """PIDs of this process's children, ended ones that nobody waited for among them."""
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


def test_nothing_is_left_behind() -> None:
    handles, before = len(os.listdir("/proc/self/fd")), children()
    pool = Pool(3, sleeper)
    assert len(children() - before) == 3
    assert list(pool.run(iter([]))) == []
    pool.close()
    assert len(os.listdir("/proc/self/fd")) == handles
    assert children() - before == set()
