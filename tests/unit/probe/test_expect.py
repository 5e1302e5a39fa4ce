"""What configuration says of an attempt, where several calls come to the same."""

from __future__ import annotations

from unittest import mock

import pytest

from ringfence.knowledge.loader import load
from ringfence.model.need import State
from ringfence.probe.battery import PROBES
from ringfence.probe.expect import Expectations

BY_ID = {probe.id: probe for probe in PROBES}


@pytest.mark.parametrize("name", ["capability.dac-override", "capability.fowner"])
@pytest.mark.parametrize("passing", ["openat", "open", ""])
def test_a_file_is_opened_by_either_call(
    name: str, passing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decided(condition: str, *_: object) -> mock.Mock:
        refused = condition.startswith("syscall:") and condition != f"syscall:{passing}"
        return mock.Mock(state=State.CLOSED if refused else State.OPEN)

    monkeypatch.setattr("ringfence.probe.expect.decide_condition", decided)
    expectations = Expectations.__new__(Expectations)
    expectations._knowledge, expectations._states = load(), {}
    expectations._scene = expectations.level = mock.Mock()
    assert expectations.of(BY_ID[name]) is (State.OPEN if passing else State.CLOSED)
