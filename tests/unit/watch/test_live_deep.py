"""Paths that are longer than the system calls take: their names, and what is decided and told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.watch.live import fanotify
from ringfence.watch.live.deep import MOST_TOLD, long_path, named
from ringfence.watch.live.events import Event, Named
from ringfence.watch.live.happening import BELOW, Gatherer
from ringfence.watch.live.naming import Names
from ringfence.watch.live.paths import _nameable
from ringfence.watch.live.ruling import is_data, question
from ringfence.watch.live.who import Census

PART = b"d" * 200
LEVELS = 25


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[int]:
    """The descriptor of a folder whose path has 5,000 bytes more than a test's."""
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(LEVELS):
        os.mkdir(PART, dir_fd=handle)
        inner = os.open(PART, os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
        os.close(handle)
        handle = inner
    yield handle
    os.close(handle)
    shutil.rmtree(tmp_path / PART.decode())


def made(folder: int, name: str, content: bytes) -> int:
    handle = os.open(name, os.O_RDWR | os.O_CREAT, 0o644, dir_fd=folder)
    os.write(handle, content)
    os.close(handle)
    return os.open(name, os.O_RDONLY, dir_fd=folder)


def test_the_whole_path_of_a_deep_file_is_found(deep: int, tmp_path: Path) -> None:
    handle = made(deep, "odd \nname  x.py", b"x")
    expected = os.fsencode(tmp_path) + (b"/" + PART) * LEVELS
    assert long_path(handle) == expected + b"/odd \\012name  x.py"
    os.close(handle)
    empty = made(deep, "empty", b"")
    assert long_path(empty) == b""
    os.close(empty)


@pytest.mark.parametrize(("name", "content", "data"), [
    ("plain.txt", b"plain", True), ("empty.py", b"", True), ("code.py", b"exit(7)", False),
    ("plain", b"\x7fELF", False),
])  # fmt: skip
def test_deep_data_is_data_and_deep_code_is_code(
    deep: int, tmp_path: Path, name: str, content: bytes, data: bool
) -> None:
    handle = made(deep, name, content)
    asked = question(handle, os.getpid(), Names(os.fsencode(tmp_path)), executed=False)
    assert asked.deep
    assert is_data(asked) is data
    assert not content or asked.place == (b"/" + PART)[1:] + (b"/" + PART) * (LEVELS - 1) + (
        b"/" + name.encode()
    )
    os.close(handle)


def test_a_path_is_told_whole_or_cut() -> None:
    assert named(b"bin/sh") == named(b"/bin/sh") == b"/bin/sh"
    assert len(named(b"x" * MOST_TOLD)) == MOST_TOLD
    assert named(b"x" * MOST_TOLD).endswith(b"x...")
    assert named(b"x" * (MOST_TOLD - 1)).endswith(b"xxx")


def test_a_deep_folder_is_told_by_the_deepest_above_it_that_has_a_name(
    deep: int, tmp_path: Path
) -> None:
    path, climbed = _nameable(deep)
    assert climbed
    assert path.startswith(os.fsencode(tmp_path) + b"/" + PART)
    assert 4096 - len(PART) - 2 < len(path) < 4096
    above = os.open(path, os.O_PATH)
    assert _nameable(above) == (path, False)
    os.close(above)


class _Marked:
    """Marks that know one folder by name, and one by what is above it."""

    whole = True

    def path(self, key: bytes) -> bytes | None:
        return b"a" if key == b"shallow" else None

    def above(self, key: bytes) -> bytes | None:
        return b"a/b" if key == b"deep" else None

    def unburied(self, key: bytes) -> None:
        return None

    def wanted(self, path: bytes) -> bool:
        return True


@pytest.mark.parametrize(("key", "expected"), [
    (b"shallow", [(b"a/x", ("write",))]), (b"deep", [(b"a/b", (BELOW, "write"))]), (b"gone", []),
])  # fmt: skip
def test_what_happens_below_is_told_of_what_is_above(
    key: bytes, expected: list[tuple[bytes, tuple[str, ...]]]
) -> None:
    gatherer = Gatherer(_Marked(), Census())  # type: ignore[arg-type]
    event = Event(mask=fanotify.MODIFY, fd=-1, pid=os.getpid(), at=Named(key, b"x"))
    assert [(item.path, item.did) for item in gatherer.gather(event, 0.0)] == expected
