"""What could not be decided is told, once for each kind and reason."""

from __future__ import annotations

from ringfence.measure.undecided import undecided
from ringfence.model.deployment import Condition, Deployment, Zone
from ringfence.model.evidence import Evidence, Grade, Unseen
from ringfence.model.need import State

REFUSED = (Evidence(Grade.ASSUMED, "/proc/1/status", "refused"),)
NO_SHOW = (Evidence(Grade.ASSUMED, "mac:no-landlock", "the kernel does not show it"),)


def deployment(conditions: dict[str, Condition], admin: dict[str, Condition]) -> Deployment:
    return Deployment("t", (Zone("system", ()),), "system", 3, (), (), conditions, admin,
                      Condition(State.CLOSED))  # fmt: skip


def test_what_is_known_is_not_told() -> None:
    known = {"syscall:bpf": Condition(State.OPEN), "syscall:mount": Condition(State.CLOSED)}
    assert undecided(deployment(known, known)) == ()


def test_what_a_default_decides_is_not_told() -> None:
    assert undecided(deployment({"syscall:bpf": Condition(State.UNKNOWN, (), False)}, {})) == ()


def test_one_line_for_each_kind_and_reason() -> None:
    calls = {f"syscall:c{number}": Condition(State.UNKNOWN, REFUSED) for number in range(6)}
    rest = {
        "mac:no-landlock": Condition(State.UNKNOWN, NO_SHOW),
        "path:shadow": Condition(State.UNKNOWN),
    }
    admin = {"syscall:c0": Condition(State.UNKNOWN, REFUSED)}
    assert undecided(deployment({**calls, **rest}, admin)) == (
        Unseen(
            "syscall:c0, syscall:c1, syscall:c2, syscall:c3 and 2 more", "/proc/1/status: refused"
        ),
        Unseen("mac:no-landlock", "the kernel does not show it"),
        Unseen("path:shadow", "not seen"),
    )


def test_what_only_the_admin_s_side_leaves_open_is_told() -> None:
    admin = {"path:shadow": Condition(State.UNKNOWN)}
    assert undecided(deployment({"path:shadow": Condition(State.CLOSED)}, admin)) == (
        Unseen("path:shadow", "not seen"),
    )
