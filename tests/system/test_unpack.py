"""Hostile archives unpacked into a folder: nothing outside of it is touched."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from ringfence.collect.files.streams import Stretch
from ringfence.errors import InputError
from ringfence.run.unpack import unpack
from tests.images import Entry, folder, hard, layer, link

pytestmark = pytest.mark.system


def laid(root: Path, *layers: bytes, shift: int = 0) -> None:
    root.mkdir()
    unpack([Stretch(data, "layer", 0, len(data)) for data in layers], root, shift)


def test_links_that_lead_out_are_followed_inside(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    target = str(tmp_path / "outside")
    laid(tmp_path / "root", layer([link("out", target), Entry("out/file", b"x"),
                                   link("up", "../../.."), Entry("up/etc/x", b"y")]))  # fmt: skip
    assert os.listdir(tmp_path / "outside") == []
    assert (tmp_path / "root" / target.lstrip("/") / "file").read_bytes() == b"x"
    assert (tmp_path / "root/etc/x").read_bytes() == b"y"


def test_names_that_climb_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="climbs out"):
        laid(tmp_path / "root", layer([Entry("a/../../escaped", b"x")]))
    assert not (tmp_path / "escaped").exists()


def test_hard_links_to_links_do_not_follow(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    laid(tmp_path / "root", layer([link("a", str(tmp_path / "secret")), hard("b", "a")]))
    assert (tmp_path / "root/b").is_symlink()


def test_a_file_replaces_a_link_instead_of_writing_through_it(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("old")
    laid(tmp_path / "root", layer([link("a", str(tmp_path / "victim")), Entry("a", b"new")]))
    assert (tmp_path / "victim").read_text() == "old"
    assert (tmp_path / "root/a").read_bytes() == b"new"


def test_whiteouts_and_opaque_folders(tmp_path: Path) -> None:
    lower = layer([folder("d"), Entry("d/a", b"1"), Entry("d/b", b"1"), Entry("e/c", b"1")])
    upper = layer([Entry("d/.wh.a", b""), Entry("e/new", b"2"), Entry("e/.wh..wh..opq", b"")])
    laid(tmp_path / "root", lower, upper)
    found = sorted(str(path.relative_to(tmp_path / "root")) for path in
                   (tmp_path / "root").rglob("*") if path.is_file())  # fmt: skip
    assert found == ["d/b", "e/new"]


def test_owners_modes_and_devices(tmp_path: Path) -> None:
    device = Entry("dev/x", kind=tarfile.CHRTYPE)
    laid(tmp_path / "root", layer([Entry("su", b"x", mode=0o4755, uid=5), device]), shift=1000)
    status = (tmp_path / "root/su").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1005, 1005, 0o4755)
    assert not (tmp_path / "root/dev/x").exists()


def test_cut_short(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        laid(tmp_path / "root", layer([Entry("a", b"x" * 5000)])[:2000])
