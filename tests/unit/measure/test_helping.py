"""A family that only helps other exploits is told where it is open, and weighs nothing."""

from __future__ import annotations

import msgspec
import pytest

from ringfence.knowledge.loader import load
from ringfence.measure.assemble import Asked, compare, measure
from ringfence.measure.openings import find
from ringfence.measure.surface import View, histogram
from ringfence.model.deployment import (
    Condition,
    Deployment,
    EntryPoint,
    Handler,
    Reach,
    Zone,
)
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.facts import Target
from ringfence.model.need import State
from ringfence.model.position import Level, Position
from ringfence.report.explain import explain

KNOWLEDGE = load()
SAID = Evidence(Grade.OBSERVED, "test")
HELPS = [family.id for family in KNOWLEDGE.families.values() if not family.escalates]
OTHERS = ("kernel:shared", "feature:userfaultfd", "sysctl:vm.unprivileged_userfaultfd>=1")
CALL = "syscall:userfaultfd"
ASKED = Asked(KNOWLEDGE.scales["classic"], start="internet")


def deployment(name: str, state: State, level: Level = Level.USER) -> Deployment:
    """A container of a service in which nothing is open, but userfaultfd where `state` says so."""
    opened, default = (Condition(each, (SAID,)) for each in (State.OPEN, State.CLOSED))
    others = dict.fromkeys(OTHERS, opened)
    decided = {CALL: Condition(state, (SAID,))}
    user = {**others, CALL: default, **(decided if level is Level.USER else {})}
    admin = decided if level is Level.ADMIN else {}
    return Deployment(
        name, (Zone("container", ()), Zone("system", ())), "system", 3, (),
        (EntryPoint("tcp:80", "tcp", Reach.INTERNET, Handler(Level.USER, SAID), (SAID,)),),
        user, admin, default,
    )  # fmt: skip


def test_userfaultfd_is_such_a_family() -> None:
    assert HELPS == ["userfaultfd"]


@pytest.mark.parametrize("scale", KNOWLEDGE.scales.values(), ids=KNOWLEDGE.scales)
def test_open_it_is_told_and_changes_no_number(scale: object) -> None:
    asked = msgspec.structs.replace(ASKED, scale=scale)
    opened, shut = (
        measure(Target("declared", "t"), deployment("t", state), KNOWLEDGE, asked)
        for state in (State.OPEN, State.CLOSED)
    )
    (vector,) = [item for item in opened.vectors if item.id == "userfaultfd"]
    stands = Position("container", Level.USER)
    assert (vector.weight, vector.gives, vector.needs.position) == (0, stands, stands)
    assert vector.evidence
    assert vector.steps == 1
    assert "internet/specialist" in vector.reachable_by
    assert "internet/criminal" not in vector.reachable_by
    assert "userfaultfd" not in {item.id for item in shut.vectors}
    assert "userfaultfd" in {item.id for item in shut.closed}
    for number in ("surface", "profile", "zero_days_to_admin", "blast_radius"):
        assert getattr(opened, number) == getattr(shut, number)
    assert opened.counts["vectors"].value == (shut.counts["vectors"].value or 0) + 1


def test_where_only_admin_of_the_zone_has_it_it_starts_there() -> None:
    found = find(deployment("t", State.OPEN, Level.ADMIN), KNOWLEDGE)
    (vector,) = [item for item in found.open if item.id == "userfaultfd"]
    assert vector.edge.source == vector.edge.gives == Position("container", Level.ADMIN)


def test_it_is_no_part_of_what_a_scale_is_drawn_for() -> None:
    one, other = (
        histogram(View(item, find(item, KNOWLEDGE).open, KNOWLEDGE.starts["internet"]))
        for item in (deployment("t", State.OPEN), deployment("t", State.CLOSED))
    )
    assert one == other


def test_a_comparison_tells_who_has_it_and_what_closes_it() -> None:
    pair = [(Target("declared", name), deployment(name, state))
            for name, state in (("open", State.OPEN), ("shut", State.CLOSED))]  # fmt: skip
    (found,) = [item for item in compare(pair, KNOWLEDGE, ASKED).differences
                if item.vector == "userfaultfd"]  # fmt: skip
    assert (found.weights, set(found.closed_by)) == ({"open": 0.0}, {"shut"})


def test_its_explanation_gives_it_no_weight() -> None:
    text = explain("userfaultfd", KNOWLEDGE) or ""
    assert "helps other exploits" in text
    assert "weighs: 0" in text
    assert "kernel:admin" not in text
    assert "weighs: 100" in (explain("keyrings", KNOWLEDGE) or "")
