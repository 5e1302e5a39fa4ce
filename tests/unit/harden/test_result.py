"""A result goes where nothing is, or where a former result is and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import msgspec
import pytest

from ringfence.errors import InputError
from ringfence.harden.record import SCHEMA
from ringfence.harden.result import OURS, _move, check_output, read_left_out, write_result
from ringfence.harden.wishes import Wishes
from ringfence.run import kernel
from ringfence.run.fence import Writable
from tests.unit.harden.reports import hardened
from tests.unit.harden.test_policies import NEEDS

MS_BIND = 0x1000
ROOT = Path(__file__).parents[3]
NAMES = ("\u00fc", "\udcff")


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


def written(place: Path) -> None:
    """Write a result whose names are not ASCII, one not even UTF-8; its policies name them, too."""
    folder = Writable("\u00fc\u6f22")
    needs = msgspec.structs.replace(NEEDS, origin="\u2265 \u00fc", writable=(folder,))
    made = mock.Mock(owners=[])
    write_result(place, hardened("\u00fc\u6f22"), needs, made, Wishes(), b"", NAMES)
    assert read_left_out(place) == frozenset(NAMES)


@pytest.mark.parametrize(
    "locale",
    [{"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=("UTF-8", "ASCII"),
)
def test_a_result_is_utf8_in_every_locale(locale: dict[str, str], tmp_path: Path) -> None:
    code = "import sys, pathlib; from tests.unit.harden.test_result import written;"
    code += "written(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path / "made")]
    environment = {**os.environ, **locale}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "\u2265 \u00fc" in (tmp_path / "made" / "report.md").read_text("utf-8")
    assert (tmp_path / "made" / "left-out.txt").read_bytes() == b"\xc3\xbc\n\xff\n"
    policies = [path.read_text("utf-8") for path in (tmp_path / "made" / "policy").iterdir()]
    assert any("\u00fc\u6f22" in text for text in policies)
