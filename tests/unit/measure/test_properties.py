"""The properties that docs/measure.md says always hold, on random deployments."""

from __future__ import annotations

import random

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringfence.knowledge.records import Mechanism, Scale
from ringfence.measure.assemble import Asked, measure
from ringfence.measure.mechanisms import switched
from ringfence.measure.openings import OpenVector, find
from ringfence.measure.surface import View, surface, total, zero_days
from ringfence.model.deployment import Deployment, EntryPoint
from ringfence.model.facts import Target
from ringfence.model.measurement import Vector, ZeroDays
from ringfence.model.need import State
from tests.unit.measure.strategies import KNOWLEDGE, SAID, deployments, entry_points

STARTS = st.sampled_from(list(KNOWLEDGE.starts))
SCALES = st.sampled_from(list(KNOWLEDGE.scales.values()))
MECHANISMS = st.lists(st.sampled_from(list(KNOWLEDGE.mechanisms.values())), max_size=4)
RANDOM = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def view(deployment: Deployment, start: str) -> View:
    return View(deployment, find(deployment, KNOWLEDGE).open, KNOWLEDGE.starts[start])


def no_less(after: int | None, before: int | None) -> bool:
    """Zero-days needed afterwards are at least those before; None is more than any number."""
    return after is None or (before is not None and after >= before)


def days_no_less(after: ZeroDays, before: ZeroDays) -> bool:
    return no_less(after.system, before.system) and no_less(after.machine, before.machine)


@RANDOM
@given(deployments(), MECHANISMS, STARTS, SCALES)
def test_turning_mechanisms_on_never_raises_a_surface(
    deployment: Deployment,
    mechanisms: list[Mechanism],
    start: str,
    scale: Scale,
) -> None:
    changed = switched(deployment, KNOWLEDGE, mechanisms, State.CLOSED, SAID)
    before, after = view(deployment, start), view(changed, start)
    assert total(after, scale) <= total(before, scale) + 1e-9
    assert days_no_less(zero_days(after), zero_days(before))


@RANDOM
@given(deployments(), entry_points(9), SCALES)
def test_a_supposed_entry_point_never_makes_anything_smaller(
    deployment: Deployment, point: EntryPoint, scale: Scale
) -> None:
    """With the start that is chosen for each, whereas one that is there may be farther away."""
    supposed = msgspec.structs.replace(point, supposed=True)
    wider = msgspec.structs.replace(
        deployment, entry_points=(*deployment.entry_points, supposed)
    )  # fmt: skip
    before, after = (
        measure(Target("declared", "random"), item, KNOWLEDGE, Asked(scale, plan=False))
        for item in (deployment, wider)
    )
    assert after.surface.total >= before.surface.total - 1e-9
    assert days_no_less(before.zero_days_to_admin, after.zero_days_to_admin)


@RANDOM
@given(deployments(), st.sampled_from(KNOWLEDGE.conditions), STARTS, SCALES)
def test_opening_a_condition_never_lowers_a_surface(
    deployment: Deployment, name: str, start: str, scale: Scale
) -> None:
    closed = msgspec.structs.replace(deployment.default, state=State.CLOSED)
    opened = msgspec.structs.replace(deployment.default, state=State.OPEN)
    pair = [
        msgspec.structs.replace(
            deployment,
            conditions={**deployment.conditions, name: state},
            admin_conditions={**deployment.admin_conditions, name: state},
        )
        for state in (closed, opened)
    ]
    before, after = (view(item, start) for item in pair)
    assert total(after, scale) >= total(before, scale) - 1e-9


@RANDOM
@given(deployments(), st.data(), SCALES)
def test_adding_an_entry_point_never_lowers_a_surface_or_raises_zero_days(
    deployment: Deployment, data: st.DataObject, scale: Scale
) -> None:
    more = data.draw(entry_points(99))
    larger = msgspec.structs.replace(deployment, entry_points=(*deployment.entry_points, more))
    start = data.draw(st.sampled_from([n for n, s in KNOWLEDGE.starts.items() if not s.inside]))
    before, after = view(deployment, start), view(larger, start)
    assert total(after, scale) >= total(before, scale) - 1e-9
    assert days_no_less(zero_days(before), zero_days(after))


@RANDOM
@given(deployments(), st.data(), STARTS, SCALES)
def test_adding_a_vector_never_lowers_a_surface_or_raises_zero_days(
    deployment: Deployment, data: st.DataObject, start: str, scale: Scale
) -> None:
    vectors = find(deployment, KNOWLEDGE).open
    inner = [vector for vector in vectors if vector.reach is None]
    if not inner:
        return
    kept = tuple(v for v in vectors if v is not data.draw(st.sampled_from(inner)))
    begin = KNOWLEDGE.starts[start]
    smaller, larger = View(deployment, kept, begin), View(deployment, vectors, begin)
    assert total(larger, scale) >= total(smaller, scale) - 1e-9
    assert days_no_less(zero_days(smaller), zero_days(larger))


@RANDOM
@given(deployments(), st.randoms(), STARTS, SCALES)
def test_the_order_of_input_never_matters(
    deployment: Deployment,
    source: random.Random,
    start: str,
    scale: Scale,
) -> None:
    vectors: list[OpenVector] = list(find(deployment, KNOWLEDGE).open)
    begin = KNOWLEDGE.starts[start]
    before = View(deployment, tuple(vectors), begin)
    source.shuffle(vectors)
    after = View(deployment, tuple(vectors), begin)
    assert total(after, scale) == total(before, scale)
    assert zero_days(after) == zero_days(before)
    assert [before.held(spent) for spent in range(4)] == [after.held(spent) for spent in range(4)]


@RANDOM
@given(deployments(), SCALES)
def test_an_attacker_with_more_means_never_reaches_less(
    deployment: Deployment, scale: Scale
) -> None:
    vectors = find(deployment, KNOWLEDGE).open
    views = {name: View(deployment, vectors, start) for name, start in KNOWLEDGE.starts.items()}
    found = surface(views, "internet", KNOWLEDGE, scale).by_attacker
    levels = list(KNOWLEDGE.sophistications)
    for start in KNOWLEDGE.starts:
        row = [found[f"{start}/{level}"] for level in levels]
        assert row == sorted(row)
        assert row[-1] <= total(views[start], scale) + 1e-9
    outside = [name for name, start in KNOWLEDGE.starts.items() if not start.inside]
    for level in levels:
        column = [found[f"{start}/{level}"] for start in outside]
        assert column == sorted(column)


@RANDOM
@given(deployments(), STARTS)
def test_more_zero_days_never_hold_less(deployment: Deployment, start: str) -> None:
    seen = view(deployment, start)
    for spent in range(3):
        assert seen.held(spent) <= seen.held(spent + 1)


@settings(RANDOM, max_examples=20)
@given(deployments(), STARTS)
def test_what_blocks_a_vector_removes_it_when_turned_on(deployment: Deployment, start: str) -> None:
    def listed(place: Deployment) -> tuple[Vector, ...]:
        return measure(Target("declared", "x"), place, KNOWLEDGE, asked).vectors

    asked = Asked(KNOWLEDGE.scales["classic"], start, plan=False)
    blocked: dict[str, set[str]] = {}
    for vector in listed(deployment):
        for name in vector.blocked_by:
            blocked.setdefault(name, set()).add(vector.id)
    for name, gone in blocked.items():
        mechanism = KNOWLEDGE.mechanisms[name]
        changed = switched(deployment, KNOWLEDGE, (mechanism,), State.CLOSED, SAID)
        assert not gone & {vector.id for vector in listed(changed)}, name
