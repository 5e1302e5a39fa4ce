"""What `Looker.small` takes at one look, and what it leaves to a closer one."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from blake3 import blake3

from ringfence.watch.baseline.digests import PIECE
from ringfence.watch.baseline.looking import Looker

MOST = 1 << 62
"""A time by which everything was touched long ago."""
TWICE = 0
READ = os.preadv


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield handle
    os.close(handle)


@pytest.fixture
def looker() -> Iterator[Looker]:
    made = Looker("sha256")
    yield made
    os.close(made._proc)


def touched_since(path: Path) -> int:
    """A beginning just before `path` was touched last."""
    return path.stat().st_ctime_ns


def put_back(path: Path, content: bytes) -> None:
    """Other content, with the former time of modification."""
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(before, before))


@pytest.mark.parametrize("settled", [MOST, TWICE])
@pytest.mark.parametrize("size", [0, 1, 4097, PIECE - 1, PIECE])
def test_a_file_of_one_piece(
    tmp_path: Path, folder: int, looker: Looker, size: int, settled: int
) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    looker.settled = settled
    entry = looker.small(folder, b"file")
    info = (tmp_path / "file").stat()
    assert entry is not None
    assert entry.digest == hashlib.sha256(content).digest()
    assert (entry.size, entry.mode, entry.links) == (size, info.st_mode & 0o7777, 1)
    assert (entry.mtime, entry.ctime, entry.inode) == (
        info.st_mtime_ns, info.st_ctime_ns, info.st_ino,
    )  # fmt: skip
    assert (looker.files_read, looker.digester.passed) == (1, size)


def test_another_algorithm(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    entry = Looker("blake3").small(folder, b"file")
    assert entry is not None
    assert entry.digest == blake3(b"abc").digest()


@pytest.mark.parametrize("settled", [MOST, TWICE])
def test_what_needs_a_closer_look(
    tmp_path: Path, folder: int, looker: Looker, settled: int
) -> None:
    (tmp_path / "large").write_bytes(bytes(PIECE + 1))
    (tmp_path / "linked").write_bytes(b"x")
    os.link(tmp_path / "linked", tmp_path / "again")
    (tmp_path / "below").mkdir()
    (tmp_path / "link").symlink_to("linked")
    looker.settled = settled
    for name in (b"large", b"linked", b"below", b"link", b"none"):
        assert looker.small(folder, name) is None
    assert (looker.files_read, looker.digester.passed) == (0, 0)


@pytest.mark.parametrize("settled", [MOST, TWICE])
def test_nothing_is_taken_out_of_a_fifo(
    tmp_path: Path, folder: int, looker: Looker, settled: int
) -> None:
    os.mkfifo(tmp_path / "fifo")
    end = os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK)
    os.write(end, b"for somebody else")
    looker.settled = settled
    assert looker.small(folder, b"fifo") is None
    assert os.read(end, 100) == b"for somebody else"
    os.close(end)


def test_what_was_touched_since_is_looked_at_again(
    tmp_path: Path, folder: int, looker: Looker
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    looker.settled = touched_since(path)
    assert looker.small(folder, b"file") is None
    looker.settled += 1
    assert looker.small(folder, b"file") is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"as long"),
        lambda path: path.write_bytes(b"longer than before"),
        lambda path: path.chmod(0o600),
        lambda path: put_back(path, b"as long"),
    ],
)
@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_a_change_while_it_is_read(
    tmp_path: Path, folder: int, looker: Looker, change: Callable[[Path], object],
    after: bool, twice: bool,
) -> None:  # fmt: skip
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, ns=(10**9, 10**9))
    looker.settled = TWICE if twice else path.stat().st_ctime_ns + 1

    time.sleep(0.02)  # kernels before 6.13 stamp files by the tick

    def reading(*words: object) -> int:
        if not after:
            change(path)
        count = READ(*words)  # type: ignore[arg-type]
        if after:
            change(path)
        return count

    with mock.patch("os.preadv", reading):
        assert looker.small(folder, b"file") is None
