"""While somebody stands still for us, we do not wait for a processor behind others."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from ringfence.probe.attempts import attempted
from ringfence.probe.definition import Inside, Outcome, Probe, opened
from ringfence.probe.driven import scheduling
from ringfence.probe.inject import Stopped, _held
from ringfence.probe.join import joined
from ringfence.probe.priority import HIGHEST, preferred
from ringfence.probe.view import View
from ringfence.run.tracee import InjectionFailed
from tests import seccomp

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="asks for CAP_SYS_NICE")


def mine() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@as_root
def test_it_lasts_as_long_as_it_is_needed() -> None:
    former = mine()
    assert former != HIGHEST
    with preferred():
        with preferred():
            assert mine() == HIGHEST
        assert mine() == HIGHEST
    assert mine() == former
    with pytest.raises(ValueError), preferred():
        raise ValueError
    assert mine() == former


def test_without_the_privilege_it_goes_on_as_it_is() -> None:
    former = mine()
    with mock.patch.object(os, "setpriority", side_effect=PermissionError) as asked, preferred():
        assert mine() == former
    asked.assert_called_once()


@as_root
def test_the_workload_stands_still_for_somebody_who_comes_first() -> None:
    found = []

    def seize(*_: object) -> None:
        found.append(mine())
        raise InjectionFailed("enough")

    with (
        mock.patch("ringfence.run.tracee.seize", seize),
        pytest.raises(InjectionFailed, match="enough"),
        _held(os.getpid(), Stopped()),
    ):
        pass
    assert found == [HIGHEST] and mine() != HIGHEST


@as_root
def test_what_tries_keeps_the_scheduling_of_the_workload() -> None:
    """It alone: its own attempts are about priorities, too."""
    found = []

    def attempt(inside: Inside) -> Outcome:
        """Asks for nothing."""
        found.append((mine(), scheduling(inside.child.pid)))
        return opened()

    probe = Probe("test.priority", "test", "", "", attempt)
    with seccomp.child(lambda: None) as pid, joined(pid) as (zygote, _):
        attempted(zygote, mock.Mock(spec=View), [probe])
        assert found == [(HIGHEST, scheduling(pid))]
    assert mine() != HIGHEST
