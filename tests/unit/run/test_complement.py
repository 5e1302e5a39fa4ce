"""What rules leave over: exactly what they do not allow, and never twice."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ringfence.harden.policy.seccomp import IOCTLS, PERSONALITIES
from ringfence.run.complement import EQUAL, MASKED, left_over

VALUES = st.one_of(st.integers(0, 40), st.integers(0, (1 << 32) - 1))


def limit(index: int) -> st.SearchStrategy[dict[str, Any]]:
    equal = st.builds(lambda value: {"index": index, "value": value, "op": EQUAL}, VALUES)
    masked = st.builds(
        lambda mask, value: {"index": index, "value": mask, "valueTwo": value & mask, "op": MASKED},
        VALUES, VALUES,
    )  # fmt: skip
    return st.one_of(equal, masked)


RULES = st.lists(
    st.one_of(
        st.just([]), limit(0).map(lambda one: [one]), st.tuples(limit(0), limit(1)).map(list)
    ),
    max_size=4,
)


def holds(rule: list[dict[str, Any]], arguments: tuple[int, int]) -> bool:
    """The specification's words (OCI runtime, linux.seccomp.syscalls.args)."""
    return all(
        arguments[one["index"]] == one["value"]
        if one["op"] == EQUAL
        else arguments[one["index"]] & one["value"] == one["valueTwo"]
        for one in rule
    )


@given(RULES, st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=20), st.data())
def test_either_allowed_or_left_over_once(
    rules: list[list[dict[str, Any]]], asked: list[tuple[int, int]], data: st.DataObject
) -> None:
    rest = left_over(rules)
    named = [one["value"] if one["op"] == EQUAL else one["valueTwo"]
             for rule in rules for one in rule]  # fmt: skip
    if named:
        asked.append((data.draw(st.sampled_from(named)), data.draw(st.sampled_from(named))))
    for arguments in asked:
        allowed = any(holds(rule, arguments) for rule in rules)
        assert sum(holds(rule, arguments) for rule in rest) == (0 if allowed else 1)


@given(RULES, st.integers(4, 12), st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=20))
def test_within_a_width_the_same_and_nothing_beyond(
    rules: list[list[dict[str, Any]]], width: int, asked: list[tuple[int, int]]
) -> None:
    whole, narrow = left_over(rules), left_over(rules, {0: width})
    for first, second in (*asked, *((value % (1 << width), other) for value, other in asked)):
        arguments = (first, second)
        wanted = first < 1 << width and any(holds(rule, arguments) for rule in whole)
        assert any(holds(rule, arguments) for rule in narrow) == wanted


def test_a_rule_without_limits_leaves_nothing() -> None:
    assert left_over([[]]) == []
    assert left_over([]) == [[]]


def test_long_lists_stay_small() -> None:
    """BPF programs have at most 4,096 instructions, and each of these takes three."""
    for values in (tuple(IOCTLS.values()), PERSONALITIES):
        rules = [[{"index": 1, "value": value, "op": EQUAL}] for value in values]
        assert len(left_over(rules)) < 300
