"""What is counted before and after: what was not seen is told, and is not zero."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from ringfence.collect.files.directory import read_directory
from ringfence.collect.files.view import MOST_CONTAINER_FILES
from ringfence.collect.live import collect_process
from ringfence.harden import measured
from ringfence.harden.markdown import rows, summary
from ringfence.harden.measured import counts, facts_of, uncounted
from ringfence.harden.record import BeforeAndAfter, Counts
from ringfence.knowledge.loader import load
from ringfence.model.facts import Facts
from tests.unit.harden.reports import hardened

PART = Counts(44951, 7000, 654, 1162, 0, 8, 380, None, 0, complete=False)


@pytest.fixture(scope="module")
def facts() -> Facts:
    return collect_process(os.getpid(), load())


def test_of_files_that_were_not_all_seen_no_number_is_told_as_exact() -> None:
    whole = msgspec.structs.replace(PART, complete=True)
    report = msgspec.structs.replace(hardened("x"), counts=BeforeAndAfter(PART, whole))
    table = {title: (before, after) for title, before, after in rows(report)}
    assert table["files"] == ("at least 44,951", "44,951")
    assert table["executables"] == ("at least 654", "654")
    assert table["setuid programs"] == ("unknown", "0")
    assert table["system calls allowed"] == ("380", "380"), "those are no files"
    assert table["capabilities"] == ("0", "0")
    assert "unknown  0\n" in summary(report, 200)


def test_a_tree_that_was_cut_short_is_counted_as_such(facts: Facts, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).touch()
    for most, complete in ((2, False), (3, True)):
        tree = read_directory(tmp_path, max_files=most)
        mine = msgspec.structs.replace(facts, tree=tree)
        assert (counts(mine).files, counts(mine).complete) == (most, complete)
        told = uncounted(mine)
        assert len(told) == (0 if complete else 1)
        assert all("after the first 2" in line for line in told)


def test_a_host_is_counted_where_a_container_would_be_cut_short(
    facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def collect(pid: int, knowledge: object, kind: str, name: str, most_files: int) -> Facts:
        asked.append(most_files)
        return facts

    monkeypatch.setattr(measured, "collect_process", collect)
    assert facts_of(1, load(), "web").target.name == "web"
    assert asked[0] >= 20 * MOST_CONTAINER_FILES
