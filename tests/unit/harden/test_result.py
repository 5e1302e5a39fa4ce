"""A result goes where nothing is, or where a former result is and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.errors import InputError
from ringfence.harden.record import SCHEMA
from ringfence.harden.result import OURS, _move, check_output
from ringfence.run import kernel

MS_BIND = 0x1000


def former(folder: Path, schema: str = SCHEMA) -> Path:
    """A result directory of ours, with every name that there can be."""
    (folder / "policy").mkdir(parents=True)
    for name in OURS - {"policy"}:
        (folder / name).touch()
    (folder / "policy/seccomp.json").touch()
    (folder / "report.json").write_text(f'{{"schema": "{schema}", "name": "x"}}')
    return folder


def test_a_former_result_and_an_empty_folder_are_replaced(tmp_path: Path) -> None:
    check_output(tmp_path / "new")
    check_output(former(tmp_path / "former"))
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty")


@pytest.mark.parametrize(
    "name", ["thesis.txt", "policy/own.json", ".git", "policy/sub/x", "report.md.orig"]
)
def test_what_somebody_put_beside_a_former_result_is_not_deleted(name: str, tmp_path: Path) -> None:
    place = former(tmp_path / "former")
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).write_text("mine")
    with pytest.raises(InputError, match="no result of ours"):
        check_output(place)
    (tmp_path / "ready").mkdir()
    with pytest.raises(InputError):
        _move(tmp_path / "ready", place)  # it came while we worked
    assert (place / name).read_text() == "mine"


@pytest.mark.parametrize("body", ['{"mine": 1}', '{"schema": "ours-1"}', "x", "[]", ""])
def test_somebody_elses_report_is_none_of_ours(body: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(body)
    with pytest.raises(InputError, match=r"no result of ours: report\.json"):
        check_output(tmp_path)


def test_folders_with_our_names_are_not_ours(tmp_path: Path) -> None:
    place = former(tmp_path / "former")
    (place / "report.md").unlink()
    (place / "report.md").mkdir()
    with pytest.raises(InputError, match=r"no result of ours: report\.md"):
        check_output(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_mount_point_is_refused_before_the_work_and_nothing_stays(tmp_path: Path) -> None:
    """Bound from the same file system, which a comparison of devices does not tell."""
    bound = tmp_path / "bound"
    for folder in (bound, tmp_path / "source", tmp_path / "ready"):
        folder.mkdir()
    check_output(bound)
    kernel.mount(str(tmp_path / "source"), str(bound), "", MS_BIND)
    try:
        with pytest.raises(InputError, match="is a mount point"):
            check_output(bound)
        with pytest.raises(InputError):
            _move(tmp_path / "ready", bound)
    finally:
        kernel.unmount(str(bound))
    assert sorted(os.listdir(tmp_path)) == ["bound", "ready", "source"]
