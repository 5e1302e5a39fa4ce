"""Protections of a program that runs: its maps decide, its headers only where it does not run."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from ringfence.collect.process.memory import image
from ringfence.knowledge.loader import load
from ringfence.measure.conditions.registry import decide_condition
from ringfence.measure.conditions.scene import scene
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.facts import Facts, Target
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import Memory
from tests.unit.measure.test_admin import SAID, process

KNOWLEDGE = load()
OWN = image(os.getpid()).value
assert OWN is not None
SAFE = msgspec.structs.replace(OWN, nx=True, writable_executable=False)
WEAK = msgspec.structs.replace(OWN, nx=False, writable_executable=True)
CUT: Seen[Memory] = Seen(None, Evidence(Grade.ASSUMED, "/proc/10/maps", "file too large"))


def state(subject: str, **facts: Any) -> State:
    one = msgspec.structs.replace(process(), **facts)
    found = scene(Facts(Target("process", "t"), processes=(one,)), KNOWLEDGE)
    return decide_condition(f"code:{subject}", found, Level.USER).state


@pytest.mark.parametrize("subject", ["writable-executable", "executable-stack"])
def test_headers_do_not_say_what_a_live_program_has_mapped(subject: str) -> None:
    safe, weak = Seen(SAFE, SAID), Seen(WEAK, SAID)
    assert state(subject, image=safe, memory=CUT) is State.UNKNOWN
    assert state(subject, image=weak, memory=CUT) is State.OPEN
    assert state(subject, image=safe, memory=CUT, pid=None) is State.CLOSED
    assert state(subject, image=weak, memory=CUT, pid=None) is State.OPEN
    seen = Seen(Memory(0, False, None, {}, SAID), SAID)
    assert state(subject, image=weak, memory=seen) is State.CLOSED
