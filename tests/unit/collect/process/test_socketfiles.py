"""The way to a Unix socket's file: the one that it is bound to, and what lies above it alone."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from ringfence.collect.process import procfs
from ringfence.collect.process.socketfiles import SocketFiles, always_passed
from ringfence.model.files import Step
from ringfence.mountinfo import Row


def way(server: socket.socket, name: bytes) -> tuple[Step, ...]:
    inode = os.fstat(server.fileno()).st_ino
    return SocketFiles().way(inode, name, os.getpid(), os.getpid())


def test_the_way_to_a_file_is_seen_through_links(tmp_path: Path) -> None:
    """Folders from links count where they are passed; of a file with two names, the file alone."""
    inner = tmp_path / "inner"
    inner.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(inner)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/link/s")
        os.chmod(inner / "s", 0o620)
        steps = way(server, os.fsencode(tmp_path / "link/s"))
        assert [stat.S_IMODE(step.mode) for step in steps[-2:]] == [0o700, 0o620]
        (tmp_path / "other").hardlink_to(inner / "s")
        (only,) = way(server, os.fsencode(tmp_path / "link/s"))
        assert stat.S_ISSOCK(only.mode)
        for name in (b"@abstract", b"", b"relative", b"/no/such", os.fsencode(tmp_path)):
            assert way(server, name) == ()


def test_another_file_at_the_name_is_not_the_sockets(tmp_path: Path) -> None:
    name, moved = tmp_path / "s", tmp_path / "moved"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as other:
        server.bind(f"{name}")
        assert way(server, os.fsencode(name)) != ()
        name.rename(moved)
        other.bind(f"{name}")
        assert way(server, os.fsencode(name)) == ()
        assert way(other, os.fsencode(name)) != ()
        assert way(server, os.fsencode(moved)) != ()


@pytest.mark.parametrize("table", [b"", None])
def test_where_the_mounts_are_not_seen_the_file_alone_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: bytes | None
) -> None:
    def whole(_pid: int, _name: str) -> bytes:
        if table is None:
            raise OSError(27, "File too large")
        return table

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/s")
        assert len(way(server, os.fsencode(tmp_path / "s"))) > 1
        monkeypatch.setattr(procfs, "whole", whole)
        assert len(way(server, os.fsencode(tmp_path / "s"))) == 1


def row(number: int, root: bytes, device: bytes = b"8:1") -> Row:
    return Row(number, 0, device, root, b"/somewhere", b"rw", b"ext4", b"/dev/sda", b"rw")


OWN = row(1, b"/")


@pytest.mark.parametrize(
    ("own", "others", "kept"),
    [
        (OWN, [], None),
        (OWN, [row(2, b"/a/b/s")], 0),
        (OWN, [row(2, b"/a/b")], 1),
        (OWN, [row(2, b"/a/b"), row(3, b"/a")], 1),
        (OWN, [row(2, b"/")], 3),
        (row(1, b"/a"), [row(2, b"/")], 2),
        (row(1, b"/a/b/s"), [row(2, b"/")], 0),
        (OWN, [row(2, b"/a/b/s", b"8:2")], None),
        (OWN, [row(2, b"/a/b/so")], None),
        (OWN, [row(2, b"/a/b/")], 1),
        (OWN, [row(2, b"/a/bb")], None),
        (OWN, [row(2, b"/a/b/s//deleted")], None),
    ],
)
def test_folders_count_that_lie_above_the_file_in_every_mount(
    own: Row, others: list[Row], kept: int | None
) -> None:
    assert always_passed(b"/a/b/s", own, [own, *others]) == kept
