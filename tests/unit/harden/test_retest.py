"""Answers that differ inside the fence: by its fault, or by themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from ringfence.errors import InputError
from ringfence.harden import retest
from ringfence.harden.observe.exercise import Answer
from ringfence.harden.observe.session import Run
from ringfence.harden.record import Report
from ringfence.harden.retest import compared, differing, retests
from tests.unit.harden.reports import hardened


def ran(asked: str, beyond: str) -> Run:
    """A run with an answer to the exercise and one to what was not in it."""
    return Run((Answer("GET /", asked),), (Answer("POST /", beyond),), (), (80,), b"", 0)


OUTSIDE = ("200 body 1 a", "200 body 1 b")
"""Answers as given to the exercise and beyond it, the first time."""


def judged(
    monkeypatch: pytest.MonkeyPatch, inside: tuple[str, str], *again: tuple[str, str]
) -> Report:
    """What becomes of these answers inside the fence, and outside the next times."""
    seen = cast(Any, SimpleNamespace(reference=ran(*OUTSIDE), plan=SimpleNamespace(stop="TERM")))
    monkeypatch.setattr(retest, "asked_again", lambda *_: (ran(*pair) for pair in again))
    monkeypatch.setattr(retest, "missed_inside", lambda *_: ("www/x",))
    report = msgspec.structs.replace(hardened("x"), retest=retests(seen, ran(*inside)), notes=())
    return compared(report, seen, *cast(Any, (None, None, None)))


def test_the_same_answers_are_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    report = judged(monkeypatch, OUTSIDE, ("200 other", "200 other"))
    assert len(report.retest) == 3 and not report.notes


def test_an_answer_that_nobody_asked_for_and_that_changes_by_itself_is_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = judged(monkeypatch, (OUTSIDE[0], "no answer (closed)"), OUTSIDE,
                    (OUTSIDE[0], "no answer (closed)"))  # fmt: skip
    assert [item.request for item in report.retest] == ["GET /", "stop by TERM"]
    assert not differing(report)
    assert report.notes == (
        "POST / is answered differently from run to run outside the fence, too: not compared",
    )


def test_an_exercise_that_changes_by_itself_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as caught:
        judged(monkeypatch, ("200 body 1 z", OUTSIDE[1]), OUTSIDE, ("200 body 1 y", OUTSIDE[1]))
    line = caught.value.line()
    assert "GET / is answered differently from run to run outside the fence, too" in line
    assert "'200 body 1 a' and '200 body 1 y'" in line
    assert "leave it out" in line and "--keep" not in line


@pytest.mark.parametrize(
    ("inside", "again"),
    [
        (("404 body 0", OUTSIDE[1]), OUTSIDE),
        ((OUTSIDE[0], "500 body 9"), (OUTSIDE[0], "200 body 1 c")),
        (("404 body 0", "200 body 1 d"), (OUTSIDE[0], "200 body 1 c")),
    ],
    ids=["steady", "broken-inside", "beside-one-that-changes"],
)
def test_what_the_fence_broke_is_an_error_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, inside: tuple[str, str], again: tuple[str, str]
) -> None:
    with pytest.raises(InputError) as caught:
        judged(monkeypatch, inside, again)
    line = caught.value.line()
    assert "1 of " in line and "--keep /www/x" in line
    assert ("GET / gave '404" in line) == inside[0].startswith("404")
