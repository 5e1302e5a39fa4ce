"""Several ways to the same: what they come to together."""

from __future__ import annotations

import itertools

import pytest

from ringfence.probe.attempts import Result, united
from ringfence.probe.definition import ABSENCE, Outcome, Seen

FILTER, CAPABILITY = "seccomp (kill)", "capability CAP_SETUID"


def result(seen: Seen, layer: str = "", call: str = "") -> Result:
    return Result(Outcome(seen), layer, frozenset({call} if call else ()))


OPEN, UNKNOWN = result(Seen.OPEN), result(Seen.UNSUPPORTED)
ABSENT = result(Seen.UNSUPPORTED, ABSENCE, "clone3")
REFUSED, STOPPED = (result(Seen.CLOSED, FILTER, "setresuid"),
                    result(Seen.CLOSED, CAPABILITY, "setuid"))  # fmt: skip


@pytest.mark.parametrize(
    ("ways", "seen", "layer"),
    [
        ((REFUSED, STOPPED, OPEN), Seen.OPEN, ""),
        ((REFUSED, STOPPED, UNKNOWN), Seen.UNSUPPORTED, ""),
        ((REFUSED, STOPPED, ABSENT), Seen.CLOSED, CAPABILITY),
        ((REFUSED, ABSENT), Seen.CLOSED, FILTER),
        ((ABSENT, ABSENT), Seen.UNSUPPORTED, ABSENCE),
    ],
)
def test_closed_is_what_is_closed_by_every_way(
    ways: tuple[Result, ...], seen: Seen, layer: str
) -> None:
    for order in itertools.permutations(ways):
        found = united(order)
        assert (found.outcome.seen, found.layer) == (seen, layer)


def test_a_way_that_a_filter_stopped_was_not_tried_to_its_end() -> None:
    assert united((REFUSED, STOPPED, ABSENT)).tried == {"setuid", "clone3"}
    assert united((REFUSED,)).tried == frozenset()
