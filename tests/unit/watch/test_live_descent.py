"""What stems from a process, also when who began it has ended: told once, and remembered."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import pytest

from ringfence.collect.process import procfs
from ringfence.watch.live import descent as module
from ringfence.watch.live import roster
from ringfence.watch.live.company import of_process
from ringfence.watch.live.descent import Descent
from ringfence.watch.live.looks import Stat
from ringfence.watch.live.verdicts import ASIDE, BEGUN, SEEN, UNKNOWN

INIT, SHELL, SERVICE, FIRST, CHILD, DAEMON, OTHER, LATER = 1, 10, 20, 30, 31, 32, 40, 41
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Machine:
    """A table of processes: parent and start (ticks) of each number."""

    table: dict[int, tuple[int, int]] = field(default_factory=dict)
    clock: int = 100

    def stat(self, pid: int) -> Stat | None:
        if pid not in self.table:
            return None
        parent, started = self.table[pid]
        return Stat("x", parent, started, 1)

    def begin(self, parent: int, pid: int) -> None:
        self.clock += 1
        self.table[pid] = (parent, self.clock)

    def end(self, pid: int, reaper: int = INIT) -> None:
        del self.table[pid]
        for child, (parent, started) in [*self.table.items()]:
            if parent == pid:
                self.table[child] = (reaper, started)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """INIT has begun SHELL and SERVICE, and SHELL then FIRST."""
    found = Machine()
    monkeypatch.setattr(module, "read_stat", found.stat)
    monkeypatch.setattr(procfs, "pids", lambda: [*found.table])
    for parent, pid in ((0, INIT), (INIT, SHELL), (INIT, SERVICE), (SHELL, FIRST)):
        found.begin(parent, pid)
    return found


def watched() -> Descent:
    found = Descent(FIRST)
    found.look()
    return found


def now() -> int:
    return int(time.time() * 1e6)


def at(ticks: int) -> int:
    """The wall time (microseconds) at so many ticks since boot."""
    boot = time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_BOOTTIME)
    return int((boot + ticks / _TICKS) * 1e6)


def begin(machine: Machine, found: Descent, parent: int, pid: int) -> None:
    """The process begins, and the kernel tells so."""
    machine.begin(parent, pid)
    found.started(parent, pid)


def test_present_parents_tell_of_what_was_there_before(machine: Machine) -> None:
    machine.begin(FIRST, CHILD)
    found = watched()
    assert found.judge(FIRST, now()) == found.judge(CHILD, now()) == ""
    for other in (INIT, SHELL, SERVICE):
        assert found.judge(other, now()) is None


@pytest.mark.parametrize("ended", [False, True])
def test_a_daemon_stays_of_the_target(machine: Machine, ended: bool) -> None:
    """Double fork: its parent has ended, and it has one above the target by now."""
    found = watched()
    begin(machine, found, FIRST, CHILD)
    begin(machine, found, CHILD, DAEMON)
    machine.end(CHILD)
    assert machine.table[DAEMON][0] == INIT
    if ended:
        machine.end(DAEMON)
    assert found.judge(DAEMON, now()) == (SEEN if ended else "")


def test_what_is_told_when_all_have_ended_is_known_as_well(machine: Machine) -> None:
    found = watched()
    for pid, parent in ((CHILD, FIRST), (DAEMON, CHILD), (LATER, DAEMON)):
        found.started(parent, pid)
    assert found.judge(LATER, now()) == BEGUN
    assert found.judge(OTHER, now()) == UNKNOWN


def test_what_others_began_is_not_of_the_target(machine: Machine) -> None:
    """Also their daemons."""
    found = watched()
    begin(machine, found, SERVICE, OTHER)
    begin(machine, found, OTHER, LATER)
    machine.end(OTHER)
    assert found.judge(LATER, now()) is None
    machine.end(LATER)
    assert found.judge(LATER, now()) is None


def test_a_daemon_that_nobody_told_of_is_not_dropped(machine: Machine) -> None:
    """It began before the watch did, or what was told is lost: the same as of any other that began
    later than the target, and unlike one that began earlier."""
    for pid, parent in ((CHILD, FIRST), (DAEMON, CHILD), (OTHER, SERVICE)):
        machine.begin(parent, pid)
    machine.end(CHILD)
    found = watched()
    assert found.judge(DAEMON, now()) == ASIDE
    assert found.judge(OTHER, now()) is None
    begin(machine, found, DAEMON, LATER)
    assert found.judge(LATER, now()) == ASIDE


def test_a_sibling_may_be_the_targets(machine: Machine) -> None:
    """clone(2), CLONE_PARENT: the kernel names the parent's parent as the one that began it."""
    found = watched()
    begin(machine, found, SHELL, OTHER)
    begin(machine, found, OTHER, LATER)
    machine.end(OTHER)
    assert found.judge(LATER, now()) == ASIDE
    assert found.judge(SHELL, now()) is None


def test_a_loss_keeps_who_lives_on(machine: Machine) -> None:
    found = watched()
    for parent, pid in ((FIRST, CHILD), (CHILD, DAEMON), (CHILD, LATER), (SERVICE, OTHER)):
        begin(machine, found, parent, pid)
    machine.end(CHILD)
    machine.end(LATER)
    machine.begin(SERVICE, LATER)  # its number, unheard
    found.started(0, 0)
    assert found.judge(DAEMON, now()) == ""
    assert found.judge(LATER, now()) is None
    assert found.judge(OTHER, now()) is None
    assert found.judge(CHILD, now()) == UNKNOWN


def test_a_number_that_was_given_on_tells_nothing_of_the_former(machine: Machine) -> None:
    found = watched()
    before = at(machine.clock)
    machine.clock += 100
    begin(machine, found, SERVICE, OTHER)
    assert found.judge(OTHER, before) == UNKNOWN
    machine.end(OTHER)
    assert found.judge(OTHER, before) == UNKNOWN
    assert found.judge(OTHER, now()) is None


def test_a_number_above_that_was_given_on_is_judged_anew(machine: Machine) -> None:
    found = watched()
    machine.end(SHELL)
    begin(machine, found, FIRST, SHELL)
    assert found.judge(SHELL, now()) == ""


def test_a_parent_that_began_after_its_child_is_another_one(machine: Machine) -> None:
    found = watched()
    machine.begin(CHILD, DAEMON)
    machine.begin(SERVICE, CHILD)
    found.started(CHILD, DAEMON)
    assert found.judge(DAEMON, now()) == ASIDE


def test_depth_is_no_way_out(machine: Machine) -> None:
    found, parent = watched(), FIRST
    for pid in range(1000, 1200):
        machine.begin(parent, pid)
        parent = pid
    assert found.judge(parent, now()) == ""


def test_what_is_no_longer_remembered_is_not_dropped(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "MOST_KNOWN", 4)
    found = watched()
    begin(machine, found, FIRST, CHILD)
    begin(machine, found, CHILD, DAEMON)
    machine.end(CHILD)
    for number in range(1000, 1040):
        found.started(FIRST, number)
    assert len(found._known) <= 4
    assert found.judge(DAEMON, now()) == ""  # it lives on
    assert found.judge(1039, now()) == BEGUN
    assert found.judge(1000, now()) == UNKNOWN


def test_without_the_kernels_word_all_are_looked_at_now_and_then(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watched()
    monkeypatch.setattr(roster, "ROSTER_EVERY", 0.0)
    machine.begin(FIRST, CHILD)
    machine.begin(CHILD, DAEMON)
    found.stale()
    machine.end(CHILD)
    assert found.judge(DAEMON, now()) == ""
    machine.end(DAEMON)
    assert found.judge(DAEMON, now()) == SEEN


def test_a_process_without_namespace_and_cgroup_is_its_descent() -> None:
    found = of_process(os.getpid())
    assert isinstance(found, Descent)
    assert found.judge(os.getpid(), now()) == ""
    assert found.judge(os.getppid(), now()) is None
