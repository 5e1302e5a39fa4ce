"""Who may use a path: its ACL is asked before its mode (acl(5))."""

from __future__ import annotations

import stat
from typing import Any

import msgspec
import pytest

from ringfence.acl import MASK, OTHER, OWNER, OWNING_GROUP, USER, Entry
from ringfence.knowledge.loader import load
from ringfence.measure.conditions.registry import decide_condition
from ringfence.measure.conditions.scene import scene
from ringfence.model.deployment import Condition
from ringfence.model.facts import Facts, Target
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import Outside, PathFact
from tests.unit.measure.test_admin import SAID, process

KNOWLEDGE = load()


def named(uid: int, bits: int, mask: int = 6) -> tuple[Entry, ...]:
    return (Entry(OWNER, 6), Entry(USER, bits, uid), Entry(OWNING_GROUP, 6), Entry(MASK, mask),
            Entry(OTHER, 0))  # fmt: skip


def docker(
    acl: tuple[Entry, ...] | None, mode: int = 0o660, container: bool = True, **has: Any
) -> Condition:
    """Whether user 1234 may use Docker's socket of root's with this ACL."""
    fact = PathFact("docker-socket", "/run/docker.sock", "socket", stat.S_IFSOCK | mode, 0, 0,
                    False, SAID, acl=acl)  # fmt: skip
    one = msgspec.structs.replace(process(), **{"paths": (fact,), **has})
    facts = Facts(Target("process", "t"), processes=(one,), container=container)
    return decide_condition("path:docker-socket", scene(facts, KNOWLEDGE), Level.USER)


@pytest.mark.parametrize(
    ("acl", "expected"),
    [
        ((), State.CLOSED),
        (named(1234, 6), State.OPEN),
        (named(1234, 4), State.CLOSED),
        (named(1234, 6, mask=0), State.CLOSED),
        (named(99, 6), State.CLOSED),
        (None, State.UNKNOWN),
    ],
    ids=["none", "named", "read alone", "masked", "another user", "not read"],
)
def test_the_list_decides(acl: tuple[Entry, ...] | None, expected: State) -> None:
    found = docker(acl)
    assert found.state is expected
    assert ("ACL user" in found.evidence[0].detail) is bool(acl)


def test_a_list_may_refuse_what_the_mode_lets_everybody_do() -> None:
    assert docker((), 0o666).state is State.OPEN
    assert docker(named(1234, 0), 0o666).state is State.CLOSED
    assert docker(None, 0o666).state is State.OPEN


def test_with_a_directory_outside_its_root_no_path_is_out_of_view() -> None:
    beyond = (Outside("/proc/10/fd/3", host=False),)
    assert docker((), paths=()).state is State.CLOSED
    assert docker((), paths=(), outside=beyond).state is State.UNKNOWN
    assert docker((), outside=beyond).state is State.UNKNOWN
    assert docker((), 0o666, outside=beyond).state is State.OPEN
    # Of a host itself all files are in view.
    assert docker((), paths=(), outside=beyond, container=False).state is State.CLOSED
