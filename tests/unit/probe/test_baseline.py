"""A saved result as a gate: only what has opened passes it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ringfence.errors import InputError
from ringfence.model.need import State
from ringfence.probe.baseline import check_stance, compared, read_report
from ringfence.probe.battery import PROBES
from ringfence.probe.definition import Seen
from ringfence.probe.record import SCHEMA, Attempt, ProbeReport, ProbeTarget

FIRST, SECOND, *OTHERS = (probe.id for probe in PROBES)


def of(rows: dict[str, str]) -> ProbeReport:
    """A result with these attempts: id -> seen."""
    attempts = tuple(
        Attempt(name, "g", "t", State.UNKNOWN, Seen(seen), "file mode", "", "T1005", "")
        for name, seen in rows.items()
    )
    target = ProbeTarget("process", "1", 1, "a", "join")
    return ProbeReport(SCHEMA, target, attempts, (), {"attempts": len(attempts)}, (), (), 0.0)


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [("closed", "open", 1), ("unsupported", "open", 1), ("open", "open", 0), ("open", "closed", 0),
     ("closed", "closed", 0), ("closed", "unsupported", 0)],
)  # fmt: skip
def test_only_what_has_opened_is_told(before: str, now: str, lines: int) -> None:
    found = compared(of({FIRST: before}), of({FIRST: now}))
    assert len(found.opened) == lines
    assert found.left_out == ()


def test_what_is_open_and_not_in_the_baseline_does_not_pass() -> None:
    """Cut out, of another version, or a newer kernel's: nobody has said that it was open before."""
    found = compared(of({FIRST: "closed"}), of({FIRST: "closed", SECOND: "open"}))
    (line,) = found.opened
    assert line.startswith(f"open, and not in the baseline: 1: {SECOND}; ")
    assert found.left_out == ()
    found = compared(of({FIRST: "closed"}), of({FIRST: "closed", SECOND: "closed"}))
    assert found.opened == ()
    assert found.left_out == (f"not compared, not in the baseline: 1: {SECOND}",)


def test_an_attempt_that_the_baseline_has_alone_is_told() -> None:
    found = compared(of({FIRST: "closed", SECOND: "open"}), of({FIRST: "closed"}))
    assert found.opened == ()
    told = f"not compared, in the baseline alone: 1 (1 open then): {SECOND}"
    assert found.left_out == (told,)


def test_of_many_that_were_not_compared_some_are_named() -> None:
    rest = dict.fromkeys(OTHERS[:20], "closed")
    (line,) = compared(of({FIRST: "closed"}), of({FIRST: "closed", **rest})).left_out
    assert f": 20: {OTHERS[0]}, " in line and line.endswith(" and 12 more")


@pytest.mark.parametrize(("detail", "told"), [("not known: rules", 1), ("no such thing", 0)])
def test_what_was_closed_and_is_not_known_now_is_told(detail: str, told: int) -> None:
    now = of({FIRST: "unsupported"})
    row = msgspec.structs.replace(now.attempts[0], detail=detail)
    found = compared(of({FIRST: "closed"}), msgspec.structs.replace(now, attempts=(row,)))
    assert found.opened == ()
    assert len(found.left_out) == told
    assert all(FIRST in line for line in found.left_out)


def by(program: str, stance: str = "join") -> ProbeReport:
    """The same result of another program, or made standing elsewhere."""
    target = ProbeTarget("process", "1", 1, program, stance)
    return msgspec.structs.replace(of({FIRST: "closed"}), target=target)


def test_another_programs_baseline_is_told() -> None:
    assert compared(by("a"), by("b")).left_out == ("the baseline is another program's: a, not b",)
    assert compared(by("a"), by("a")).left_out == ()


def test_a_result_that_was_made_standing_elsewhere_is_refused(tmp_path: Path) -> None:
    for stance, other in (("join", "inject"), ("inject", "join")):
        check_stance(by("a", stance), tmp_path, stance)
        with pytest.raises(InputError, match=f"made by {stance}") as error:
            check_stance(by("a", stance), tmp_path, other)
        assert str(tmp_path) in error.value.line() and "--inject" in error.value.line()


def saved(tmp_path: Path, found: ProbeReport) -> Path:
    path = tmp_path / "saved.json"
    path.write_bytes(msgspec.json.encode(found))
    return path


def test_a_saved_result_is_read_again(tmp_path: Path) -> None:
    found = of({FIRST: "closed", SECOND: "open"})
    assert read_report(saved(tmp_path, found)) == found


def twice() -> ProbeReport:
    """One id closed first and open later, counted as it is."""
    rows = (*of({FIRST: "closed"}).attempts, *of({FIRST: "open"}).attempts)
    return msgspec.structs.replace(of({FIRST: "open"}), attempts=rows, counts={"attempts": 2})


WHOLE = of({FIRST: "closed", SECOND: "open"})


@pytest.mark.parametrize(
    ("found", "said"),
    [(of({f"x{FIRST}": "closed"}), "has no attempt that this probe makes"),
     (twice(), f"has the attempt '{FIRST}' twice"),
     (msgspec.structs.replace(WHOLE, attempts=()), "length >= 1"),
     (msgspec.structs.replace(WHOLE, attempts=WHOLE.attempts[:1]),
      "holds 1 attempts, where its counts say 2"),
     (msgspec.structs.replace(WHOLE, counts={}), "its counts say None")],
)  # fmt: skip
def test_what_compares_nothing_or_was_cut_is_refused(
    tmp_path: Path, found: ProbeReport, said: str
) -> None:
    path = saved(tmp_path, found)
    with pytest.raises(InputError) as error:
        read_report(path)
    assert said in error.value.line() and str(path) in error.value.line()


@pytest.mark.parametrize(("field", "value"), [("seen", "maybe"), ("expected", "perhaps")])
def test_a_word_that_no_attempt_has_is_refused(tmp_path: Path, field: str, value: str) -> None:
    path = saved(tmp_path, WHOLE)
    text = path.read_text()
    said = getattr(WHOLE.attempts[0], field)
    path.write_text(text.replace(f'"{field}":"{said}"', f'"{field}":"{value}"', 1))
    with pytest.raises(InputError, match=f"Invalid enum value '{value}'"):
        read_report(path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\x00\xff", '{"schema": "other"}'])
def test_what_is_no_result_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "saved.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_report(path)
    assert str(path) in error.value.line() and "\n" not in error.value.line()


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, msgspec.structs.replace(WHOLE, schema="x/9"))
    with pytest.raises(InputError, match="x/9"):
        read_report(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path / "none.json")
