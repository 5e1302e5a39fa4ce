"""The plan: smallest sets against brute force, and what a plan promises on a real deployment."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.collect.targets import collect
from ringfence.knowledge.loader import load
from ringfence.measure.assemble import Asked, measure
from ringfence.measure.judge import deployment_of
from ringfence.measure.mechanisms import switched
from ringfence.measure.place import place
from ringfence.measure.plan import TURNED_ON, smallest
from ringfence.model.deployment import Deployment
from ringfence.model.measurement import Measurement
from ringfence.model.need import State

KNOWLEDGE = load()
EXAMPLE = Path(__file__).parents[3] / "examples" / "1-general-purpose-server.toml"
NAMES = list("abcdefg")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.frozensets(st.sampled_from(NAMES), min_size=1), min_size=1, max_size=6),
    st.lists(st.integers(1, 3), min_size=7, max_size=7),
)
def test_no_smaller_or_cheaper_set_is_enough(
    ways: list[frozenset[str]], efforts: list[int]
) -> None:
    """`enough`: every vector has been cut, where a vector is cut by any of some mechanisms."""

    def enough(chosen: frozenset[str]) -> bool:
        return all(way & chosen for way in ways)

    costs = {name: 100 + effort for name, effort in zip(NAMES, efforts, strict=True)}
    chosen, optimal = smallest(NAMES, costs, enough)
    best = min(
        sum(costs[name] for name in subset)
        for size in range(len(NAMES) + 1)
        for subset in combinations(NAMES, size)
        if enough(frozenset(subset))
    )
    assert optimal
    assert enough(chosen)
    assert sum(costs[name] for name in chosen) == best


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.frozensets(st.sampled_from(NAMES), min_size=1), min_size=1, max_size=4))
def test_a_mechanism_that_helps_only_beside_another_is_found(ways: list[frozenset[str]]) -> None:
    """`enough`: some whole group has been turned on, so that no single one does anything."""

    def enough(chosen: frozenset[str]) -> bool:
        return any(way <= chosen for way in ways)

    chosen, optimal = smallest(NAMES, dict.fromkeys(NAMES, 101), enough)
    assert optimal
    assert len(chosen) == min(len(way) for way in ways)


def placed(template: str) -> Deployment:
    service = deployment_of(collect(str(EXAMPLE), KNOWLEDGE), KNOWLEDGE)
    return place(service, KNOWLEDGE.templates[template], KNOWLEDGE)


def measured(deployment: Deployment, *, plan: bool = True) -> Measurement:
    facts = collect(str(EXAMPLE), KNOWLEDGE)
    return measure(
        facts.target,
        deployment,
        KNOWLEDGE,
        Asked(KNOWLEDGE.scales["classic"], "internet", plan=plan),
    )


@pytest.mark.parametrize("template", ["server", "container-default", "container-privileged"])
def test_each_step_keeps_what_it_promises(template: str) -> None:
    deployment = placed(template)
    result = measured(deployment)
    assert result.plan
    assert result.plan_optimal
    done = []
    for step in result.plan:
        done.append(KNOWLEDGE.mechanisms[step.mechanism])
        after = measured(switched(deployment, KNOWLEDGE, done, State.CLOSED, TURNED_ON), plan=False)
        assert after.surface.total == step.surface_after
        assert after.zero_days_to_admin == step.zero_days_after
        assert step.setting


def test_no_mechanism_outside_the_plan_removes_more() -> None:
    deployment = placed("container-default")
    result = measured(deployment)
    every = [item for item in KNOWLEDGE.mechanisms.values() if item.plan]
    least = measured(switched(deployment, KNOWLEDGE, every, State.CLOSED, TURNED_ON), plan=False)
    assert result.plan[-1].surface_after == least.surface.total


def test_a_deployment_with_nothing_left_has_an_empty_plan() -> None:
    result = measured(placed("container-minimal"))
    assert result.plan == ()
    assert result.plan_optimal
