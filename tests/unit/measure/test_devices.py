"""What the device cgroup lets through decides whether a node that was made opens anything."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ringfence.collect.live import _with_devices
from ringfence.collect.process import limits as reader
from ringfence.collect.process import procfs
from ringfence.measure.conditions.registry import decide_condition
from ringfence.measure.conditions.scene import scene
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.facts import Facts, Target
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import Limits, Process
from tests.unit.measure.test_admin import KNOWLEDGE, NOT_SEEN, SAID, process, state

BY_RUNC = tuple(
    "b *:* m,c *:* m,c 1:3 rwm,c 1:8 rwm,c 1:7 rwm,c 5:0 rwm,c 1:5 rwm,c 1:9 rwm,c 5:1 rwm,"
    "c 136:* rwm,c 5:2 rwm,c 10:200 rwm".split(",")
)
"""devices.list of a container by runc 1.1 whose configuration refuses all devices."""


def with_rules(rules: Seen[Any], cgroup: str = "/a") -> Process:
    held = Limits(None, None, None, cgroup, SAID, rules)
    return msgspec.structs.replace(process(), limits=Seen(held, SAID))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (BY_RUNC, State.CLOSED),
        ((), State.CLOSED),
        (("a *:* rwm",), State.OPEN),
        ((*BY_RUNC, "b 254:0 r"), State.OPEN),
        ((*BY_RUNC, "c 1:1 rw"), State.OPEN),
        ((*BY_RUNC, "c *:* rw"), State.OPEN),
        ((*BY_RUNC, "c 1:* r"), State.OPEN),
        ((*BY_RUNC, "no rule"), State.OPEN),
        (None, State.UNKNOWN),
    ],
)
def test_what_opens_decides(rules: tuple[str, ...] | None, expected: State) -> None:
    assert state("limit:devices-absent", with_rules(Seen(rules, SAID))) is expected


@pytest.mark.parametrize(
    ("own", "held", "expected"),
    [
        (False, {"CAP_SYS_ADMIN"}, State.UNKNOWN),
        (None, {"CAP_SYS_ADMIN"}, State.UNKNOWN),
        (True, {"CAP_SYS_ADMIN"}, State.CLOSED),
        (False, {"CAP_MKNOD"}, State.CLOSED),
    ],
)
def test_who_may_change_the_rules_is_not_bound_by_them(
    own: bool | None, held: set[str], expected: State
) -> None:
    limits = with_rules(Seen(BY_RUNC, SAID)).limits
    one = msgspec.structs.replace(process(own=own, effective=frozenset(held)), limits=limits)
    facts = Facts(Target("container", "t"), processes=(one,), container=True)
    found = decide_condition("limit:devices-absent", scene(facts, KNOWLEDGE), Level.ADMIN)
    assert found.state is expected


def test_where_limits_were_not_seen_nothing_is_claimed() -> None:
    found = msgspec.structs.replace(process(), limits=NOT_SEEN)
    assert state("limit:devices-absent", found) is State.UNKNOWN


def test_of_several_processes_the_least_bound_counts() -> None:
    bound, free = (with_rules(Seen(rules, SAID)) for rules in (BY_RUNC, ("a *:* rwm",)))
    assert state("limit:devices-absent", bound, free) is State.OPEN


@pytest.mark.parametrize(
    ("cgroups", "known"),
    [
        (("/c", "/c"), [True, True]),
        (("/c", "/c/exec"), [True, True]),
        (("/c", "/cc"), [True, False]),
        (("/", "/"), [False, False]),
    ],
)
def test_the_configuration_tells_of_its_own_cgroup_alone(
    cgroups: tuple[str, ...], known: list[bool]
) -> None:
    declared = Seen(BY_RUNC, Evidence(Grade.DECLARED, "config.json"))
    members = tuple(with_rules(NOT_SEEN, cgroup) for cgroup in cgroups)
    held = [one.limits.value for one in _with_devices(members, declared)]
    assert [one is not None and one.devices == declared for one in held] == known


def test_what_the_kernel_shows_is_not_replaced() -> None:
    (found,) = _with_devices((with_rules(Seen(("a *:* rwm",), SAID)),), Seen((), SAID))
    assert found.limits.value is not None
    assert found.limits.value.devices.value == ("a *:* rwm",)


@pytest.mark.parametrize("root", ["/", "/other"])
def test_the_cgroup_s_own_list_is_read(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    """A mount that shows a part of the hierarchy has other paths than /proc says."""
    (tmp_path / "devices/c").mkdir(parents=True)
    (tmp_path / "devices/c/devices.list").write_text("c 1:3 rwm\n")
    table = f"1 0 0:33 {root} {tmp_path}/devices rw - cgroup cgroup rw,devices\n"
    files = {"cgroup": b"5:devices:/c\n", "mountinfo": table.encode()}
    monkeypatch.setattr(procfs, "read", lambda _pid, name: files[name])
    reader._hierarchies.cache_clear()
    try:
        found = reader.limits(1).value
    finally:
        reader._hierarchies.cache_clear()
    assert found is not None
    expected = (("c 1:3 rwm",), Grade.OBSERVED) if root == "/" else (None, Grade.ASSUMED)
    assert (found.devices.value, found.devices.evidence.grade) == expected
