"""Digests of whole files and of first parts, of sizes around a piece."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.watch.baseline.digests import PIECE, Digester, Shortened

SIZES = (0, 1, 4097, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 5)


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(SIZES[-1])


@pytest.fixture
def opened(tmp_path: Path, content: bytes) -> Iterator[int]:
    (tmp_path / "file").write_bytes(content)
    handle = os.open(tmp_path / "file", os.O_RDONLY)
    yield handle
    os.close(handle)


@pytest.mark.parametrize("size", SIZES)
def test_whole_and_in_parts(opened: int, content: bytes, size: int) -> None:
    digester = Digester("sha256")
    expected = hashlib.sha256(content[:size]).digest()
    assert digester.whole(opened, size) == expected
    for first in {0, size // 2, max(0, size - 1), size}:
        os.lseek(opened, 0, os.SEEK_SET)
        part = hashlib.sha256(content[:first]).digest()
        assert digester.parted(opened, first, size) == (part, expected)
    assert digester.passed == size * (1 + len({0, size // 2, max(0, size - 1), size}))


def test_a_file_that_is_shorter_than_it_was(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content[:100])
    digester = Digester("sha256")
    with path.open("rb", buffering=0) as file:
        with pytest.raises(Shortened):
            digester.whole(file.fileno(), 101)
        file.seek(0)
        with pytest.raises(Shortened):
            digester.whole(file.fileno(), PIECE + 1)


def test_two_digesters_do_not_share_their_bytes(opened: int, content: bytes) -> None:
    one, other = Digester("sha256"), Digester("sha256")
    first = one.whole(opened, 100)
    assert other.whole(opened, 50) == hashlib.sha256(content[100:150]).digest()
    os.lseek(opened, 0, os.SEEK_SET)
    assert one.whole(opened, 100) == first == hashlib.sha256(content[:100]).digest()
