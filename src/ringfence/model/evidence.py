"""Evidence: why a fact is believed, and where it was read."""

from __future__ import annotations

import enum
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Grade(enum.StrEnum):
    """How a fact is known, weakest first (docs/measure.md, *Words*)."""

    ASSUMED = "assumed"
    DECLARED = "declared"
    OBSERVED = "observed"
    PROBED = "probed"

    @property
    def rank(self) -> int:
        """0 for `assumed` to 3 for `probed`, so that grades compare by number."""
        return _RANK[self]


_RANK = {grade: rank for rank, grade in enumerate(Grade)}


class Evidence(msgspec.Struct, frozen=True):
    """One reason to believe a fact.

    `source` names the place (file and line, /proc entry, knowledge entry, probe); `detail` says
    what was seen there. Neither ever holds a secret value.
    """

    grade: Grade
    source: str
    detail: str = ""


class Seen(msgspec.Struct, Generic[T], frozen=True):
    """A value that was read, with its evidence; `value` is None where it could not be seen."""

    value: T | None
    evidence: Evidence


class Unseen(msgspec.Struct, frozen=True):
    """Something that was looked for and could not be read, and why."""

    what: str
    why: str


def weakest(grades: list[Grade]) -> Grade:
    """The lowest of `grades`: a conclusion is as good as its weakest fact. Empty: assumed."""
    return min(grades, key=lambda grade: grade.rank, default=Grade.ASSUMED)
