"""Who is admin of the system, and which processes are judged: capabilities of a user namespace,
ids that can be taken back, and processes that only look alike."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ringfence.collect.process.credentials import maps_root
from ringfence.knowledge.loader import load
from ringfence.measure.conditions.registry import decide_condition
from ringfence.measure.conditions.scene import Scene, is_admin, scene
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.facts import Facts, Target
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import (
    Credentials,
    EnvironmentHint,
    Limits,
    Memory,
    Mount,
    Namespace,
    PathFact,
    Process,
)

KNOWLEDGE = load()
SAID = Evidence(Grade.OBSERVED, "test")
NOT_SEEN: Seen[Any] = Seen(None, Evidence(Grade.ASSUMED, "test"))
NONE: frozenset[str] = frozenset()
ALL = frozenset({"CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SETUID"})


def process(own: bool | None = False, **credentials: Any) -> Process:
    """A process, in a user namespace of its own or not (None: not seen)."""
    has: dict[str, Any] = {
        "uid": 1234, "gid": 1234, "groups": (), "user": "somebody", "effective": NONE,
        "permitted": NONE, "inheritable": NONE, "bounding": NONE, "ambient": NONE, "evidence": SAID,
    }  # fmt: skip
    shared = Seen(None if own is None else not own, SAID)
    return Process(
        pid=10, parent=1, program="service", executable="/service",
        credentials=Seen(Credentials(**{**has, **credentials}), SAID),
        no_new_privileges=Seen(True, SAID), seccomp=NOT_SEEN,
        namespaces=(Namespace("user", 1, shared),), mac_label=NOT_SEEN, mounts=NOT_SEEN,
        memory=NOT_SEEN, limits=NOT_SEEN, environment=NOT_SEEN, image=NOT_SEEN,
        neighbours=NOT_SEEN, terminal=NOT_SEEN,
    )  # fmt: skip


def seen(*processes: Process) -> Scene:
    return scene(Facts(Target("process", "test"), processes=processes), KNOWLEDGE)


def state(condition: str, *processes: Process) -> State:
    return decide_condition(condition, seen(*processes), Level.USER).state


FULL: dict[str, Any] = {"effective": ALL, "permitted": ALL}


@pytest.mark.parametrize(
    ("item", "container", "expected"),
    [
        (process(own=True, **FULL), False, False),
        (process(own=True, **FULL), True, True),
        (process(own=True, **FULL, root_mapped=True), False, True),
        (process(own=False, **FULL), False, True),
        (process(own=None, **FULL), False, True),
        (process(permitted=ALL), False, True),
        (process(uids=frozenset({0, 1234})), False, True),
        (process(uids=frozenset({0, 1234})), True, False),
        (process(uids=frozenset({1234})), False, False),
        (process(own=True, uid=0), False, True),
    ],
)
def test_who_is_admin(item: Process, container: bool, expected: bool) -> None:
    assert is_admin(item, container) is expected


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (process(), State.CLOSED),
        (process(uid=0), State.OPEN),
        (process(uids=frozenset({0, 1234})), State.OPEN),
        (process(permitted=ALL), State.OPEN),
        (process(own=True, **FULL), State.CLOSED),
    ],
)
def test_what_becomes_root_with_one_call_is_root(item: Process, expected: State) -> None:
    assert state("process:root-user", item) is expected


def test_permitted_capabilities_count_as_effective() -> None:
    assert state("process:effective-capabilities", process(permitted=ALL)) is State.OPEN
    assert state("process:effective-capabilities", process()) is State.CLOSED


def test_capabilities_of_a_namespace_do_not_override_the_files_of_the_system() -> None:
    fact = PathFact("shadow", "/etc/shadow", "file", 0o100600, 0, 0, False, SAID)
    for item, level, expected in (
        (process(own=True, **FULL), Level.USER, State.CLOSED),
        (process(own=True, **FULL, root_mapped=True), Level.ADMIN, State.OPEN),
        (process(own=False, **FULL), Level.ADMIN, State.OPEN),
    ):
        view = seen(msgspec.structs.replace(item, paths=(fact,)))
        assert decide_condition("path:shadow", view, level).state is expected


def test_which_maps_have_the_systems_root_in_them() -> None:
    assert maps_root("         0          0 4294967295\n")
    assert maps_root("      1234       1234          1\n         0          0          1\n")
    assert not maps_root("         0       1234          1\n")
    assert not maps_root("")


def changed(**fields: Any) -> Process:
    return msgspec.structs.replace(process(), **fields)


HINT = EnvironmentHint("DB_PASSWORD", "its name says so")
SHADOW = PathFact("shadow", "/etc/shadow", "file", 0o100600, 0, 0, False, SAID)
DIFFERENT = {
    "environment": changed(environment=Seen((HINT,), SAID)),
    "no secret in the environment": changed(environment=Seen((), SAID)),
    "groups": process(groups=(27,)),
    "gid": process(gid=42),
    "label": changed(mac_label=Seen("service (enforce)", SAID)),
    "limits": changed(limits=Seen(Limits(1 << 20, 9, 1.0, "/a", SAID), SAID)),
    "root folder": changed(mounts=Seen((Mount("/", "/jail", "ext4", "a", NONE, "8:1"),), SAID)),
    "paths": changed(paths=(SHADOW,)),
    "paths not seen": changed(paths_seen=False),
    "memory": changed(memory=Seen(Memory(1, False, True, {}, SAID), SAID)),
    "neighbours": changed(neighbours=Seen(("sshd",), SAID)),
    "terminal": changed(terminal=Seen(True, SAID)),
}


@pytest.mark.parametrize("item", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_in_what_is_judged_is_judged_apart(item: Process) -> None:
    assert len(seen(process(), item).user) == 2


def test_equal_workers_are_one_foothold_whatever_evidence_says() -> None:
    other = Evidence(Grade.OBSERVED, "/proc/11/status")
    first = changed(limits=Seen(Limits(1, 2, None, "/a", SAID), SAID), paths=(SHADOW,))
    second = changed(
        pid=11,
        limits=Seen(Limits(1, 2, None, "/b", other), other),
        paths=(msgspec.structs.replace(SHADOW, evidence=other),),
    )
    assert len(seen(first, second).user) == 1


def test_the_order_of_children_does_not_decide() -> None:
    pair = changed(environment=Seen((), SAID)), changed(environment=Seen((HINT,), SAID), pid=11)
    for children in (pair, pair[::-1]):
        assert state("process:environment-secrets", *children) is State.OPEN
