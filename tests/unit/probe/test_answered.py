"""What ours hands on is refused by copies of its filters; what others' hand on stays unknown."""

from __future__ import annotations

import pytest

from ringfence.model.evidence import Evidence, Grade
from ringfence.probe import answered
from ringfence.probe.answered import REFUSED, USER_NOTIF, as_answered, asks
from tests import seccomp
from tests.seccomp import ALLOW, JUMP_EQUAL, LOAD_NUMBER, RETURN, Instruction

DATA = 7
"""Of the notification: libseccomp writes none, and the kernel takes any."""


def program(refusal: int) -> bytes:
    steps: list[Instruction] = [
        (LOAD_NUMBER, 0, 0, USER_NOTIF), (JUMP_EQUAL, 0, 1, USER_NOTIF), (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, refusal),
    ]  # fmt: skip
    return seccomp.encoded(steps)


@pytest.mark.parametrize("ours", [True, False])
def test_who_listens_decides(ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Evidence(Grade.DECLARED, "/proc/1/fd", "answers, and refuses") if ours else None
    monkeypatch.setattr(answered, "refusing", lambda pid: said)
    held, other = program(USER_NOTIF | DATA), program(seccomp.ERRNO | 1)
    assert asks(held) and not asks(other)
    found = as_answered(7, (held, other))
    assert found == ((program(REFUSED), other) if ours else (held, other))


def test_filters_that_hand_nothing_on_are_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answered, "refusing", lambda pid: pytest.fail("nobody need look"))
    other = program(seccomp.ERRNO | 1)
    assert as_answered(7, (other,)) == (other,)
