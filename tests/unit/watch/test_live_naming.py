"""Paths in the target, of files that another mount namespace shows otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.watch.live.naming import Names


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "root" / "bin" / "file"
    found.parent.mkdir(parents=True)
    found.write_text("x")
    (tmp_path / "root" / "bin" / "other").write_text("x")
    return found


def named(root: bytes, shown: bytes, file: Path) -> bytes | None:
    handle = os.open(file, os.O_RDONLY)
    try:
        return Names(root).path(handle, shown, os.fstat(handle))
    finally:
        os.close(handle)


def test_below_the_root_it_is_as_it_is_shown(file: Path) -> None:
    root = bytes(file.parent.parent)
    assert named(root, root + b"/bin/file", file) == b"bin/file"
    assert named(b"", b"/bin/file", file) == b"bin/file"


def test_where_the_target_is_the_root_the_file_tells(file: Path) -> None:
    assert named(bytes(file.parent.parent), b"/bin/file", file) == b"bin/file"


def test_a_path_that_leads_to_another_file_is_not_believed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Names, "_by_handle", lambda self, fd: None)
    root = bytes(file.parent.parent)
    assert named(root, b"/bin/other", file) is None
    assert named(root, b"/bin/nothing", file) is None
    assert named(root, b"/file", file) is None


@pytest.mark.system
def test_where_the_root_is_elsewhere_the_handle_tells(file: Path) -> None:
    root = bytes(file.parent.parent)
    assert named(root, b"/other", file) == named(root, b"/file", file) == b"bin/file"


def test_a_file_outside_has_no_path(file: Path) -> None:
    outside = file.parent.parent.parent / "file"
    outside.write_text("x")
    assert named(bytes(file.parent.parent), bytes(outside), outside) is None


def test_a_root_that_is_gone_names_what_is_shown_below_it(file: Path) -> None:
    assert named(b"/nowhere", b"/nowhere/file", file) == b"file"
    assert named(b"/nowhere", b"/bin/file", file) is None
