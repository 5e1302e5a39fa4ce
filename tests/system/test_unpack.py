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


@pytest.mark.parametrize("depth", [3, 50, 256])
def test_a_deep_file_without_folders_is_no_circle_of_links(depth: int, tmp_path: Path) -> None:
    name = "/".join(["d"] * depth)
    before = os.umask(0o077)
    try:
        laid(tmp_path / "root", layer([Entry(f"{name}/file", b"x")]))
    finally:
        os.umask(before)
    assert (tmp_path / "root" / name / "file").read_bytes() == b"x"
    assert (tmp_path / "root/d").stat().st_mode & 0o777 == 0o755


def test_what_is_too_deep_to_be_removed_again_is_refused(tmp_path: Path) -> None:
    name = "/".join(["d"] * 257)
    with pytest.raises(InputError, match="folders deep"):
        laid(tmp_path / "root", layer([Entry(f"{name}/file", b"x")]))


def test_links_that_dangle_are_followed_as_far_as_the_kernel_does(tmp_path: Path) -> None:
    chain = [link(f"s{number}", f"s{number + 1}") for number in range(39)]
    laid(tmp_path / "root", layer([*chain, link("s39", "deep/in"), Entry("s0/x", b"x")]))
    assert (tmp_path / "root/deep/in/x").read_bytes() == b"x"
    with pytest.raises(InputError):
        laid(tmp_path / "round", layer([link("a", "b"), link("b", "a"), Entry("a/x", b"x")]))
    with pytest.raises(InputError):
        laid(tmp_path / "long", layer([*chain, link("s39", "s40"), link("s40", "deep"),
                                       Entry("s0/x", b"x")]))  # fmt: skip
