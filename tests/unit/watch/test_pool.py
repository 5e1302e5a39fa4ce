"""Workers: results in order, rests handed back, failures told, nothing left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ringfence.watch.baseline.pool import MOST_PACKET, Pool, PoolError, Work


def sleeper() -> Work:
    def work(unit: bytes) -> tuple[bytes, bytes]:
        time.sleep(0.002 * (unit[0] % 5))
        return unit, b""

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
        return lambda unit: (unit[:1], unit[1:])

    pool = Pool(3, make)
    try:
        found = b"".join(pool.run(iter([b"abc", b"d", b"efgh"])))
    finally:
        pool.close()
    assert found == b"abcdefgh"


def test_large_units_and_large_results() -> None:
    pool = Pool(2, lambda: lambda unit: (unit * 40, b""))
    units = [bytes([number]) * (MOST_PACKET - 100) for number in range(20)]
    try:
        for unit, result in zip(units, pool.run(iter(units)), strict=True):
            assert result == unit * 40
    finally:
        pool.close()


def test_a_failure_is_told() -> None:
    def make() -> Work:
        def work(unit: bytes) -> tuple[bytes, bytes]:
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
        def work(unit: bytes) -> tuple[bytes, bytes]:
            os.kill(os.getpid(), 9)
            return unit, b""

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
