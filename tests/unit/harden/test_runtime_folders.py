"""Folders of tmpfiles.d are made in the tree alone, whatever links it holds."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ringfence.errors import InputError
from ringfence.harden.observe.runtime_folders import Folder, make, runtime_folders
from tests.unit.harden.trees import planted

CONF = "usr/lib/tmpfiles.d/x.conf"
OWN, GROUP = os.getuid(), os.getgid()


def line(path: str, mode: str = "0750") -> str:
    return f"d {path} {mode} {OWN} {GROUP} -\n"


def test_they_have_the_mode_of_their_line(tmp_path: Path) -> None:
    tree = planted(tmp_path, {CONF: line("/run/web") + line("/var/run/db/inner", "0700")},
                   {"var/run": "/run"})  # fmt: skip
    before = os.umask(0o077)
    try:
        make(runtime_folders(tree), tmp_path)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE((tmp_path / path).stat().st_mode)
             for path in ("run", "run/web", "run/db", "run/db/inner")}  # fmt: skip
    assert modes == {"run": 0o755, "run/web": 0o750, "run/db": 0o755, "run/db/inner": 0o700}


def test_a_chain_of_links_that_leads_out_changes_nothing_there(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    chain = {f"run/s{number}": f"s{number + 1}" for number in range(40)}
    root = tmp_path / "root"
    tree = planted(root, {CONF: line("/run/s0", "4777") + line("/run/s0/new") + line("/run/good")},
                   {**chain, "run/s40": str(victim)})  # fmt: skip
    make(runtime_folders(tree), root)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o700 and not list(victim.iterdir())
    assert (root / "run/good").is_dir()


@pytest.mark.parametrize("path", ["run/link", "run/link/new"])
def test_a_link_in_the_copy_is_not_followed(path: str, tmp_path: Path) -> None:
    """However a path was looked up: what is made steps through no link."""
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    (tmp_path / "root/run").mkdir(parents=True)
    (tmp_path / "root/run/link").symlink_to(victim)
    make((Folder(path, 0o777, OWN, GROUP),), tmp_path / "root")
    assert stat.S_IMODE(victim.stat().st_mode) == 0o700 and not list(victim.iterdir())


def test_a_file_in_the_way_stays_and_the_others_are_made(tmp_path: Path) -> None:
    text = line("/run/foo") + line("/run/foo/bar") + line("/run/good")
    tree = planted(tmp_path, {CONF: text, "run/foo": "x"})
    make(runtime_folders(tree), tmp_path)
    assert (tmp_path / "run/foo").read_text() == "x"
    assert (tmp_path / "run/good").is_dir()


def test_a_name_that_no_folder_can_have_is_passed_over(tmp_path: Path) -> None:
    names = ("a" * 300, f"{'a' * 256}/b", "a" * 255)
    tree = planted(tmp_path, {CONF: "".join(line(f"/run/{name}") for name in names)})
    make(runtime_folders(tree), tmp_path)
    assert os.listdir(tmp_path / "run") == ["a" * 255]


def test_a_host_without_room_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(InputError, match="/run/x: cannot be made: No space left"):
        make((Folder("run/x", 0o755, OWN, GROUP),), tmp_path)
