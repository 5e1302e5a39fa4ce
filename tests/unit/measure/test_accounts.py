"""Rules of sudo: the reader's own /etc/sudoers says nothing of a process that has another one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ringfence.collect.host.read import read_host
from ringfence.knowledge.loader import load
from ringfence.measure.conditions.registry import decide_condition
from ringfence.measure.conditions.scene import scene
from ringfence.model.evidence import Seen
from ringfence.model.facts import Facts, Target
from ringfence.model.kernel import Account
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import Mount
from tests.unit.measure.test_admin import NOT_SEEN, SAID, process

KNOWLEDGE = load()
RW = frozenset({"rw"})
ROOT = Mount("/", "/", "ext4", "/dev/a", RW, "8:1")
TMP = Mount("/tmp", "/", "tmpfs", "t", RW, "0:40")
HOST = msgspec.structs.replace(
    read_host(KNOWLEDGE, []), mounts=(ROOT,), accounts=(Account("boss", 1, "sudo"),), unseen=()
)


def state(mounts: Seen[Any], user: str = "somebody") -> State:
    one = msgspec.structs.replace(process(user=user), mounts=mounts)
    facts = Facts(Target("process", "t"), processes=(one,), host=HOST)
    return decide_condition("account:sudo-rule", scene(facts, KNOWLEDGE), Level.USER).state


@pytest.mark.parametrize(
    ("mounts", "same"),
    [
        ((ROOT,), True),
        ((ROOT, TMP), True),
        ((ROOT, Mount("/etc", "/", "tmpfs", "t", RW, "0:41")), False),
        ((ROOT, Mount("/etc", "/other", "ext4", "/dev/a", RW, "8:1")), False),
        ((Mount("/", "/jail", "ext4", "/dev/a", RW, "8:1"),), False),
        ((TMP,), False),
    ],
    ids=["the host's", "private /tmp", "other /etc", "bound /etc", "other root", "chroot"],
)
def test_rules_are_those_of_its_own_file_system(mounts: tuple[Mount, ...], same: bool) -> None:
    seen = Seen(mounts, SAID)
    assert state(seen) is (State.CLOSED if same else State.UNKNOWN)
    assert state(seen, "boss") is (State.OPEN if same else State.UNKNOWN)


def test_where_mounts_were_not_seen_nothing_is_claimed() -> None:
    assert state(NOT_SEEN) is State.UNKNOWN
