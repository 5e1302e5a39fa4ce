"""What becomes of enforcement, and of the exit code, where a run fails."""

from __future__ import annotations

import itertools

import pytest

from ringfence.errors import FailedError, InputError
from ringfence.watch.live.ending import FAILED, Ending
from ringfence.watch.live.running import _enforced, _failing
from ringfence.watch.live.told import POLICY, Told

LEFT = Told(POLICY, "target", {"verdict": "left", "why": "they go on"})


class Fence:
    """Enforcement that notes what is done to it."""

    def __init__(self, *, stays: bool) -> None:
        self.stays = stays
        self.done: list[str] = []

    def leave(self) -> Told:
        self.done.append("left")
        return LEFT

    def stop(self) -> list[Told]:
        self.done.append("stopped")
        return []


class Kept:
    """A keeper, which may be what failed."""

    def __init__(self, *, broken: bool) -> None:
        self.broken = broken
        self.records: list[Told] = []

    def keep(self, records: list[Told]) -> None:
        if self.broken:
            raise InputError("was tampered with", where="ledger")
        self.records += records


@pytest.mark.parametrize(
    ("stays", "reason", "broken"),
    list(itertools.product((True, False), ("", FAILED, "SIGTERM"), (True, False))),
)
def test_a_run_that_fails_ends_enforcement_only_where_somebody_wants_that(
    stays: bool, reason: str, broken: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    fence, keeper = Fence(stays=stays), Kept(broken=broken)
    with Ending() as ending:
        ending.reason = reason
        with pytest.raises(ZeroDivisionError), _enforced(fence, keeper, ending):  # type: ignore[arg-type]
            raise ZeroDivisionError
    left = stays and reason != "SIGTERM"
    assert fence.done == (["left"] if left else ["stopped"])
    assert keeper.records == ([LEFT] if left and not broken else [])
    assert capfd.readouterr().err == ("ringfence: they go on\n" if left else "")


def test_a_run_that_ends_well_touches_nothing() -> None:
    fence = Fence(stays=True)
    keeper = Kept(broken=False)
    with Ending() as ending, _enforced(fence, keeper, ending):  # type: ignore[arg-type]
        pass
    assert fence.done == []


def test_an_error_that_nobody_foresaw_has_its_own_exit_code(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(FailedError, match="File name too long") as raised, _failing():
        raise OSError(36, "File name too long")
    assert raised.value.exit_code == 4
    assert "Traceback" in capfd.readouterr().err
    with pytest.raises(InputError), _failing():
        raise InputError("is no baseline", where="x")
    assert capfd.readouterr().err == ""
