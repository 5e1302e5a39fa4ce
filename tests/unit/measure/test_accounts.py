"""Rules of sudo: the reader's own /etc/sudoers says nothing of a process that has another one, and
of a container its own files decide."""

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
from ringfence.model.files import SudoRules
from ringfence.model.kernel import Account
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import Mount, Process
from tests.unit.measure.test_admin import NOT_SEEN, SAID, changed, process

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


def inside(rules: SudoRules | None, *members: Process) -> State:
    """The rule's state in a container whose own files have `rules`."""
    facts = Facts(Target("container", "t"), processes=members, host=HOST, container=True,
                  sudo=Seen(rules, SAID))  # fmt: skip
    return decide_condition("account:sudo-rule", scene(facts, KNOWLEDGE), Level.USER).state


SHARES = msgspec.structs.replace(process(), mounts=Seen((ROOT,), SAID))
OWN_USERS = msgspec.structs.replace(process(own=True), mounts=Seen((ROOT,), SAID))
ROOT_ALONE = msgspec.structs.replace(
    process(uid=0, effective=frozenset({"CAP_SETUID"})), mounts=Seen((ROOT,), SAID)
)
OTHER_ROOT = changed(mounts=Seen((Mount("/", "/jail", "ext4", "/dev/a", RW, "8:1"),), SAID))


@pytest.mark.parametrize(
    ("rules", "member", "expected"),
    [
        (SudoRules(), SHARES, State.CLOSED),
        (SudoRules(), OWN_USERS, State.CLOSED),
        (SudoRules(), ROOT_ALONE, State.CLOSED),
        (None, SHARES, State.UNKNOWN),
        (SudoRules(uids=frozenset({1234})), SHARES, State.OPEN),
        (SudoRules(gids=frozenset({1234})), SHARES, State.OPEN),
        (SudoRules(everyone=True), SHARES, State.OPEN),
        (SudoRules(uids=frozenset({1}), gids=frozenset({1})), SHARES, State.CLOSED),
        (SudoRules(uids=frozenset({1})), OWN_USERS, State.UNKNOWN),
        (SudoRules(uids=frozenset({1})), ROOT_ALONE, State.UNKNOWN),
    ],
)
def test_in_a_container_its_own_rules_decide(
    rules: SudoRules | None, member: Process, expected: State
) -> None:
    assert inside(rules, member) is expected


def test_a_member_with_another_root_may_have_other_rules() -> None:
    assert inside(SudoRules(), SHARES, OTHER_ROOT) is State.UNKNOWN


def test_of_a_container_whose_files_were_not_read_nothing_is_claimed() -> None:
    facts = Facts(Target("container", "t"), processes=(SHARES,), host=HOST, container=True)
    found = decide_condition("account:sudo-rule", scene(facts, KNOWLEDGE), Level.USER)
    assert found.state is State.UNKNOWN
