"""A saved result as a gate: only what has opened passes it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ringfence.errors import InputError
from ringfence.probe.baseline import opened_since, read_report
from ringfence.probe.record import SCHEMA, Attempt, ProbeReport, ProbeTarget


def report(**seen: str) -> ProbeReport:
    rows = tuple(Attempt(name, "g", "t", "unknown", value, "file mode", "", "T1005", "")
                 for name, value in seen.items())  # fmt: skip
    return ProbeReport(
        SCHEMA, ProbeTarget("process", "1", 1, "a", "join"), rows, (), {}, (), (), 0.0
    )


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [("closed", "open", 1), ("unsupported", "open", 1), ("open", "open", 0), ("open", "closed", 0),
     ("closed", "closed", 0), ("closed", "unsupported", 0)],
)  # fmt: skip
def test_only_what_has_opened_is_told(before: str, now: str, lines: int) -> None:
    assert len(opened_since(report(a=before), report(a=now))) == lines


def test_an_attempt_that_is_new_is_no_opening() -> None:
    assert opened_since(report(a="closed"), report(a="closed", b="open")) == ()


def test_a_saved_result_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    path.write_bytes(msgspec.json.encode(report(a="closed")))
    assert read_report(path) == report(a="closed")


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\x00\xff", '{"schema": "other"}'])
def test_what_is_no_result_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "saved.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_report(path)
    assert str(path) in error.value.line() and "\n" not in error.value.line()


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(report(a="open"), schema="x/9")))
    with pytest.raises(InputError, match="x/9"):
        read_report(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path / "none.json")
