"""A folder as a root file system: no link followed, no FIFO waited on, nothing outside read."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from ringfence.collect.files.directory import read_directory
from ringfence.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    for name in ("usr/bin", "usr/lib", "etc", "srv"):
        (place / name).mkdir(parents=True)
    (place / "usr/bin/bash").write_bytes(b"#!")
    (place / "usr/bin/bash").chmod(0o755)
    (place / "usr/bin/python3.11").write_bytes(b"#!")
    (place / "usr/bin/python3.11").chmod(0o755)
    (place / "usr/bin/su").write_bytes(b"su")
    (place / "usr/bin/su").chmod(0o4755)
    (place / "usr/lib/libx.so.1").write_bytes(Path("/bin/true").read_bytes())
    (place / "etc/motd").write_text("hello")
    return place


def test_counts_and_classes(root: Path) -> None:
    tree = read_directory(root)
    assert (tree.counts.files, tree.counts.setuid, tree.counts.shells) == (5, 1, 1)
    assert tree.programs["shell"] == ("usr/bin/bash",)
    assert tree.programs["interpreter"] == ("usr/bin/python3.11",)
    assert [file.path for file in tree.privileged] == ["usr/bin/su"]
    assert list(tree.elf) == ["usr/lib/libx.so.1"]
    assert tree.complete
    assert tree.unseen == ()


def test_links_are_counted_and_not_followed(root: Path) -> None:
    (root / "srv/out").symlink_to("/etc")
    (root / "srv/sh").symlink_to("/bin/sh")
    (root / "srv/loop").symlink_to("loop")
    tree = read_directory(root)
    assert tree.counts.files == 8
    assert "shell" in tree.programs
    assert len(tree.programs["shell"]) == 1


def test_a_fifo_is_not_waited_on(root: Path) -> None:
    os.mkfifo(root / "usr/bin/fifo", 0o755)
    began = time.monotonic()
    assert read_directory(root).counts.files == 6
    assert time.monotonic() - began < 5


def test_a_sparse_file_of_ten_gigabytes_is_not_read(root: Path) -> None:
    with (root / "srv/big").open("wb") as file:
        file.truncate(10 << 30)
    began = time.monotonic()
    assert (read_directory(root).counts.bytes or 0) > 10 << 30
    assert time.monotonic() - began < 5


def test_a_file_with_two_names_has_its_bytes_once(root: Path) -> None:
    before = read_directory(root).counts
    os.link(root / "etc/motd", root / "etc/issue")
    after = read_directory(root).counts
    assert before.files and (after.files, after.bytes) == (before.files + 1, before.bytes)


def test_world_writable_but_for_sticky_folders(root: Path) -> None:
    (root / "etc/open").write_text("x")
    (root / "etc/open").chmod(0o666)
    (root / "srv").chmod(0o777)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    assert set(read_directory(root).world_writable) == {"etc/open", "srv"}


def test_a_limit_ends_the_reading_and_is_said(root: Path) -> None:
    tree = read_directory(root, max_files=4)
    assert not tree.complete
    assert any(note.why == "limit" for note in tree.unseen)


NOBODY = 65534


def test_what_may_not_be_read_is_said() -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "etc").mkdir()
        (place / "motd").write_text("x")
        place.chmod(0o755)
        (place / "etc").chmod(0)
        own = os.geteuid()
        if own == 0:
            os.seteuid(NOBODY)
        try:
            tree = read_directory(place)
        finally:
            os.seteuid(own)
            (place / "etc").chmod(0o755)
    assert tree.counts.files == 1
    assert any("permission denied" in note.why for note in tree.unseen)


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        read_directory(tmp_path / "nowhere")


def test_package_databases_together_have_a_bound(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.collect.files.directory.MOST_HELD", 50)
    (root / "var/lib/dpkg/status.d").mkdir(parents=True)
    for name in "ab":
        (root / "var/lib/dpkg/status.d" / name).write_text(f"Package: {name}\nVersion: 1.2.3.4.5\n")
    tree = read_directory(root)
    assert tree.counts.packages == 1
    assert "more than 128 MiB in all" in tree.unseen[0].why
