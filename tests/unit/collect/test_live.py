"""A workload that changes while it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest

from ringfence.collect import live
from ringfence.collect.process import procfs
from ringfence.collect.process.tree import processes
from ringfence.errors import InputError
from ringfence.knowledge.loader import load
from ringfence.knowledge.records import Knowledge
from ringfence.model.evidence import Evidence, Grade, Unseen
from ringfence.model.facts import Target
from ringfence.model.process import Listener, Process

KNOWLEDGE = load()
SOCKET = 50
OTHERS = {9: frozenset({60})}


class Workload:
    """Processes with numbers that follow one another: `looks` has those of each look."""

    def __init__(self, looks: list[list[int]], ended: set[int]) -> None:
        self._looks: Iterator[list[int]] = iter(looks)
        self._now: list[int] = []
        self._ended = ended
        (self._member,), _ = processes([os.getpid()], KNOWLEDGE)
        self.others: list[dict[int, frozenset[int]] | None] = []
        self.earlier: list[frozenset[int]] = []

    def look(self) -> list[int]:
        self._now = next(self._looks, self._now)
        return self._now

    def listeners(
        self,
        pids: list[int],
        *,
        whole_host: bool,
        earlier: frozenset[int],
        others: dict[int, frozenset[int]] | None,
    ) -> tuple[tuple[Listener, ...], tuple[Unseen, ...]]:
        self.others.append(others)
        self.earlier.append(earlier)
        seen = Evidence(Grade.OBSERVED, "test")
        return (Listener("tcp", "::", 80, SOCKET, (pids[-1],), (pids[-1],), seen),), ()

    def processes(
        self, pids: list[int], knowledge: Knowledge
    ) -> tuple[tuple[Process, ...], list[Unseen]]:
        found = [msgspec.structs.replace(self._member, pid=pid) for pid in pids]
        return tuple(one for one in found if one.pid not in self._ended), []


def read(
    monkeypatch: pytest.MonkeyPatch, looks: list[list[int]], ended: set[int], kind: str = "process"
) -> tuple[live.Reading, Workload]:
    workload = Workload(looks, ended)
    monkeypatch.setattr(live, "listeners", workload.listeners)
    monkeypatch.setattr(live, "processes", workload.processes)
    monkeypatch.setattr(live, "_others", lambda look, pids: OTHERS)
    return live._read(Target(kind, "1"), workload.look, KNOWLEDGE), workload


def test_one_that_rests_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, workload = read(monkeypatch, [[1, 2]], set())
    assert list(found.members) == [1, 2]
    assert (found.unseen, workload.others) == ((), [None])
    assert [(item.holders, item.holders_seen) for item in found.listeners] == [((2,), True)]


def test_one_that_comes_to_rest_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found, workload = read(monkeypatch, [[1, 2], [1, 3]], {2})
    assert list(found.members) == [1, 3]
    assert (found.unseen, workload.others) == ((), [None, None])
    assert [(item.holders, item.holders_seen) for item in found.listeners] == [((3,), True)]


def test_one_that_never_rests_is_told_and_keeps_its_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = [[1, number] for number in range(2, 20)]
    found, workload = read(monkeypatch, looks, set(range(2, 20)))
    assert list(found.members) == [1]
    assert [item.what for item in found.unseen] == ["all processes of 1"]
    assert workload.others == [*[None] * (live.LOOKS - 1), OTHERS]
    assert workload.earlier == [frozenset(), *[{SOCKET}] * (live.LOOKS - 1)]
    assert [(item.holders, item.holders_seen) for item in found.listeners] == [((1,), False)]


def test_of_a_host_others_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    found, workload = read(monkeypatch, [[1, 2], [1, 3]], set(), "host")
    assert list(found.members) == [1, 2]
    assert (found.unseen, workload.others) == ((), [None])
    assert [item.holders for item in found.listeners] == [(2,)]
    found, _ = read(monkeypatch, [[1, 2]], {2}, "host")
    assert [(item.holders, item.holders_seen) for item in found.listeners] == [((), False)]


def test_one_that_ends_meanwhile_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([[1]])

    def look() -> list[int]:
        for pids in looks:
            return pids
        raise InputError("there is no such process", where="PID 1")

    workload = Workload([], set())
    monkeypatch.setattr(live, "listeners", workload.listeners)
    monkeypatch.setattr(live, "processes", workload.processes)
    assert list(live._read(Target("process", "1"), look, KNOWLEDGE).members) == [1]


def test_others_are_processes_that_stay_outside_whatever_they_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1 is the workload's first process, 2 one that ends, 3 turns out to be the workload's, 4 is
    another's, and 5 one that shows nothing."""

    def sockets_of(pid: int) -> frozenset[int]:
        if pid == 5:
            raise PermissionError(13, "Permission denied")
        return frozenset({pid * 10})

    running, members = iter([[1, 2, 3, 4, 5], [1, 3, 4, 5]]), iter([[1], [1, 3]])
    monkeypatch.setattr(procfs, "pids", lambda: next(running))
    monkeypatch.setattr(procfs, "living", lambda pid: pid)
    monkeypatch.setattr(live, "sockets_of", sockets_of)
    assert live._others(lambda: next(members), [1]) == {4: {40}, 5: frozenset()}
