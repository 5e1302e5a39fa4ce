"""Whom a Unix socket's file and the folders above it let connect, and how near that makes it."""

from __future__ import annotations

import msgspec
import pytest

from ringfence.acl import GROUP, MASK, OTHER, OWNER, OWNING_GROUP, USER, Entry
from ringfence.measure.reach import reach
from ringfence.model.deployment import Reach
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.facts import Facts, Target
from ringfence.model.files import Step
from ringfence.model.process import Listener
from tests.unit.measure.test_admin import SAID, process

OPEN = Step(0o40755, 0, 0)
SHUT = Step(0o40700, 0, 0)
TEAM = Step(0o40750, 0, 7)
OWN = 1234
"""The user of the service."""


def file(mode: int, uid: int = 0, gid: int = 0) -> Step:
    return Step(0o140000 | mode, uid, gid)


def with_acl(step: Step, *more: Entry) -> Step:
    base = (Entry(OWNER, 7), Entry(OWNING_GROUP, 0), Entry(MASK, 7), Entry(OTHER, 0))
    return msgspec.structs.replace(step, acl=(*base, *more))


def told(*way: Step, path: str = "/run/x.sock") -> tuple[Reach, Evidence]:
    mode = way[-1].mode if way else None
    item = Listener("unix", "", None, 1, (10,), (), SAID, path, mode, way=way)
    facts = Facts(Target("process", "t"), processes=(process(uid=OWN),))
    return reach(item, {}, facts)


@pytest.mark.parametrize(
    ("way", "expected", "grade"),
    [
        ((OPEN, file(0o666)), Reach.LOCAL, Grade.OBSERVED),
        ((OPEN, file(0o777)), Reach.LOCAL, Grade.OBSERVED),
        ((OPEN, file(0o755)), Reach.INSIDE, Grade.OBSERVED),
        ((OPEN, file(0o600)), Reach.INSIDE, Grade.OBSERVED),
        ((OPEN, file(0o600, OWN)), Reach.INSIDE, Grade.OBSERVED),
        ((OPEN, file(0o600, 55)), Reach.LOCAL, Grade.OBSERVED),
        ((OPEN, file(0o400, 55)), Reach.INSIDE, Grade.OBSERVED),
        ((OPEN, file(0o660)), Reach.LOCAL, Grade.ASSUMED),
        ((OPEN, file(0o606)), Reach.LOCAL, Grade.OBSERVED),
        ((OPEN, SHUT, file(0o666)), Reach.INSIDE, Grade.OBSERVED),
        ((SHUT, OPEN, file(0o666)), Reach.INSIDE, Grade.OBSERVED),
        ((OPEN, TEAM, file(0o666)), Reach.LOCAL, Grade.ASSUMED),
        ((OPEN, TEAM, file(0o660, 0, 8)), Reach.LOCAL, Grade.ASSUMED),
        ((SHUT, file(0o660, 0, 8)), Reach.INSIDE, Grade.OBSERVED),
        ((OPEN, Step(0o40700, 55, 0), file(0o666)), Reach.LOCAL, Grade.OBSERVED),
        ((OPEN, Step(0o40644, 0, 0), file(0o666)), Reach.INSIDE, Grade.OBSERVED),
    ],
)
def test_modes_of_file_and_folders_decide(
    way: tuple[Step, ...], expected: Reach, grade: Grade
) -> None:
    found, evidence = told(*way)
    assert (found, evidence.grade) == (expected, grade)


def test_acls_let_in_whom_modes_keep_out() -> None:
    for entry, grade in ((Entry(USER, 6, 55), Grade.OBSERVED), (Entry(GROUP, 6, 9), Grade.ASSUMED)):
        found, evidence = told(OPEN, with_acl(file(0o600), entry))
        assert (found, evidence.grade) == (Reach.LOCAL, grade)
    assert told(OPEN, with_acl(file(0o600), Entry(USER, 4, 55)))[0] is Reach.INSIDE
    assert told(OPEN, with_acl(file(0o600), Entry(USER, 6, OWN)))[0] is Reach.INSIDE
    assert told(OPEN, SHUT, with_acl(file(0o600), Entry(USER, 6, 55)))[0] is Reach.INSIDE


def test_an_acl_that_could_not_be_read_may_let_anybody_in() -> None:
    unread = msgspec.structs.replace(file(0o600), acl=None)
    found, evidence = told(OPEN, unread)
    assert (found, evidence.grade) == (Reach.LOCAL, Grade.ASSUMED)


def test_the_words_say_who_may() -> None:
    assert told(OPEN, file(0o666))[1].detail == "mode 0666 0:0: everybody may connect"
    assert told(OPEN, SHUT, file(0o666))[1].detail == (
        "mode 0666 0:0, in a folder mode 0700 0:0: only root and the service itself may connect"
    )
    assert "gid 8 may connect" in told(OPEN, file(0o660, 0, 8))[1].detail


@pytest.mark.parametrize(
    ("path", "grade"),
    [("@name", Grade.OBSERVED), ("", Grade.OBSERVED), ("/gone", Grade.ASSUMED),
     ("relative", Grade.ASSUMED)],
)  # fmt: skip
def test_without_a_file_it_is_as_near_as_any(path: str, grade: Grade) -> None:
    found, evidence = told(path=path)
    assert (found, evidence.grade) == (Reach.LOCAL, grade)
