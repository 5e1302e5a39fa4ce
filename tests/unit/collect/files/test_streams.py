"""Byte sources: mapped files, and decompressors that notice where a stream ends too early."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from ringfence.collect.files import streams
from ringfence.collect.files.streams import Expanded, Stretch, expanded, whole_file
from ringfence.errors import InputError

Pack = Callable[[bytes], bytes]
PACKS: dict[str, Pack] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}
DATA = os.urandom(70_000) + bytes(300_000) + b"end"


def opened(path: Path, data: bytes) -> Stretch | Expanded:
    path.write_bytes(data)
    return expanded(whole_file(path))


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_every_compression_gives_back_what_went_in(pack: Pack, tmp_path: Path) -> None:
    source = opened(tmp_path / "x", pack(DATA))
    assert source.read(10) == DATA[:10]
    source.skip(100_000)
    assert source.tell() == 100_010
    assert source.read(1 << 30) == DATA[100_010:]
    assert source.at_end()


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_several_streams_one_after_the_other_are_one(pack: Pack, tmp_path: Path) -> None:
    source = opened(tmp_path / "x", pack(b"one") + pack(b"two"))
    assert source.read(100) == b"onetwo"


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_a_stream_cut_short_is_an_error(pack: Pack, tmp_path: Path) -> None:
    data = pack(DATA)
    source = opened(tmp_path / "x", data[: len(data) // 2])
    with pytest.raises(InputError, match="stream is cut short"):
        source.read(1 << 30)


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_a_broken_stream_is_an_error(pack: Pack, tmp_path: Path) -> None:
    data = bytearray(pack(DATA))
    data[8:48] = b"\xff" * 40
    source = opened(tmp_path / "x", bytes(data))
    with pytest.raises(InputError, match=r"stream is (broken|cut short)"):
        source.read(1 << 30)


def test_more_than_gzip_could_hold_is_a_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "UNSUSPECTED", 1 << 20)
    path = tmp_path / "bomb.bz2"
    path.write_bytes(bz2.compress(bytes(64 << 20)))
    with pytest.raises(InputError, match="2000 times its size"):
        expanded(whole_file(path)).skip(1 << 40)
    path.write_bytes(gzip.compress(bytes(64 << 20)))
    source = expanded(whole_file(path))
    source.skip(1 << 40)
    assert source.tell() == 64 << 20


def test_a_bomb_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_EXPANDED", 1 << 20)
    source = opened(tmp_path / "x", gzip.compress(bytes(8 << 20)))
    with pytest.raises(InputError, match="expands to more than"):
        source.skip(8 << 20)


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_a_bomb_is_expanded_in_small_pieces(pack: Pack, tmp_path: Path) -> None:
    """64 MB that one packet of input stands for, or nearly so."""
    source = opened(tmp_path / "x", pack(bytes(64 << 20)))
    tracemalloc.start()
    try:
        source.skip(64 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert source.at_end() and source.read(1) == b""
    assert peak < (40 << 20 if pack is zstandard.compress else 16 << 20)  # xz: its dictionary


def test_passing_the_end_is_remembered(tmp_path: Path) -> None:
    for data in (b"plain", gzip.compress(b"plain")):
        source = opened(tmp_path / "x", data)
        source.skip(5)
        assert source.at_end()
        source.skip(1)
        assert not source.at_end()
        assert source.read(1) == b""


def test_a_large_file_is_read_right_in_pieces_of_any_size(tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 33 + b"tail"
    path = tmp_path / "large"
    path.write_bytes(data)
    source = whole_file(path)
    assert source.digest() == hashlib.sha256(data).hexdigest()
    parts = []
    while part := source.read(3_333_333):
        parts.append(part)
    assert b"".join(parts) == data
    again = whole_file(path)
    again.skip(30 << 20)
    assert bytes(again.part(100).window(10)) == data[30 << 20 : (30 << 20) + 10]


@pytest.mark.parametrize("kind", ["folder", "missing", "fifo"])
def test_what_is_no_plain_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(InputError, match="is not a plain file"):
        whole_file(path)


def test_a_file_that_shrinks_while_it_is_read_is_cut_short_and_ends_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(os.urandom(1 << 20))
    source = whole_file(path)
    assert len(source.read(100)) == 100
    os.truncate(path, 1000)
    source.skip(500_000)
    assert source.read(10) == b""
