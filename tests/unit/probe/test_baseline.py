"""A saved result as a gate: only what has opened passes it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ringfence.errors import InputError
from ringfence.model.need import State
from ringfence.probe.baseline import compared, read_report
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


def test_an_attempt_that_one_result_has_alone_is_no_opening_and_is_told() -> None:
    more = of({FIRST: "closed", SECOND: "open"})
    new, gone = compared(of({FIRST: "closed"}), more), compared(more, of({FIRST: "closed"}))
    assert new.opened == gone.opened == ()
    assert new.left_out == (f"not compared, not in the baseline: 1 (1 open now): {SECOND}",)
    assert gone.left_out == (f"not compared, in the baseline alone: 1 (1 open then): {SECOND}",)


def test_of_many_that_were_not_compared_those_that_are_open_are_named_first() -> None:
    rest = {**dict.fromkeys(OTHERS[:20], "closed"), SECOND: "open"}
    found = compared(of({FIRST: "closed"}), of({FIRST: "closed", **rest}))
    (line,) = found.left_out
    assert f"21 (1 open now): {SECOND}, " in line and line.endswith(" and 13 more")


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
