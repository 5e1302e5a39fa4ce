"""Which files are read for a decision, and which are refused unread."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from ringfence.watch.live import ruling
from ringfence.watch.live.allowed import Allowed
from ringfence.watch.live.known import Known
from ringfence.watch.live.layers import Layers
from ringfence.watch.live.naming import Names
from ringfence.watch.live.ruling import (
    AWAKE,
    LOADED,
    MOST_FOREIGN,
    OTHER,
    OUTSIDE,
    UNKNOWN,
    WRITTEN,
    Rulings,
    may_write,
    question,
)
from tests.watching import Watched

HUGE = 1 << 43
"""Bytes of a hole: hours of reading, and no space."""


@pytest.fixture
def known(tmp_path: Path) -> Known:
    target = tmp_path / "target"
    target.mkdir()
    (target / "good.so").write_bytes(b"good")
    watched = Watched(tmp_path, target)
    watched.init()
    public = bytes.fromhex(watched.report()["sealed_by"].removeprefix("ed25519:"))
    return Known(watched.baseline, public)


NO_LAYERS = Layers(b"", 0, lambda _: False)


def hole(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def test_what_cannot_be_allowed_is_refused_unread(known: Known, tmp_path: Path) -> None:
    target = tmp_path / "target"
    rulings = Rulings(Allowed(known), NO_LAYERS)
    hole(target / "foreign.so", HUGE)
    hole(tmp_path / "outside.so", HUGE)
    os.rename(target / "good.so", target / "away.so")
    hole(target / "good.so", HUGE)
    for path, why in (
        (target / "foreign.so", UNKNOWN), (tmp_path / "outside.so", OUTSIDE),
        (target / "good.so", OTHER),
    ):  # fmt: skip
        handle = os.open(path, os.O_RDONLY)
        asked = question(handle, os.getpid(), Names(os.fsencode(target)), executed=False)
        for found in (rulings.quick(asked), rulings.full(asked)):
            assert found is not None
            assert (found.allowed, found.why, found.digest) == (False, why, b"")
        os.close(handle)


@pytest.mark.parametrize(("content", "allowed"), [(b"good", True), (b"evil", False)])
def test_what_has_path_and_size_of_the_baseline_is_read(
    known: Known, tmp_path: Path, content: bytes, allowed: bool
) -> None:
    target = tmp_path / "target"
    (target / "good.so").write_bytes(content)
    rulings = Rulings(Allowed(known), NO_LAYERS)
    handle = os.open(target / "good.so", os.O_RDONLY)
    asked = question(handle, os.getpid(), Names(os.fsencode(target)), executed=False)
    assert rulings.quick(asked) is None
    found = rulings.full(asked)
    assert (found.allowed, found.why) == (allowed, "" if allowed else OTHER)
    os.close(handle)


@pytest.mark.parametrize(("size", "read"), [(1000, True), (MOST_FOREIGN + 1, False)])
def test_learning_reads_foreign_code_that_can_be_read_in_seconds(
    known: Known, tmp_path: Path, size: int, read: bool
) -> None:
    target = tmp_path / "target"
    hole(target / "foreign.so", size)
    rulings = Rulings(Allowed(known), NO_LAYERS, digests=True)
    handle = os.open(target / "foreign.so", os.O_RDONLY)
    asked = question(handle, os.getpid(), Names(os.fsencode(target)), executed=False)
    assert rulings.quick(asked) is None
    found = rulings.full(asked)
    assert (found.allowed, found.why, bool(found.digest)) == (False, UNKNOWN, read)
    os.close(handle)


ROOTS = {"st_uid": 0, "st_mode": stat.S_IFREG | 0o644}


@pytest.mark.parametrize(
    ("change", "may"),
    [
        ({}, False), ({"st_uid": 1000}, True), ({"st_mode": stat.S_IFREG | 0o664}, True),
        ({"st_mode": stat.S_IFREG | 0o646}, True), ({"st_mode": stat.S_IFCHR | 0o666}, False),
        ({"st_mode": stat.S_IFBLK | 0o660}, True),
    ],
)  # fmt: skip
def test_who_may_write(change: dict[str, int], may: bool) -> None:
    assert may_write(status(**{**ROOTS, **change})) is may


@pytest.mark.parametrize("open_for_writing", [True, False])
@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("loads", [True, False, None])
def test_data_that_may_be_code_a_moment_later_is_denied_to_the_loader(
    known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loads: bool | None,
    others: bool, open_for_writing: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(ruling, "by_loader", lambda _: loads)
    data = tmp_path / "target/data"
    data.write_bytes(b"data")
    handle = os.open(data, os.O_RDONLY)
    writer = os.open(data, os.O_WRONLY) if open_for_writing else -1
    asked = question(handle, os.getpid(), Names(os.fsencode(tmp_path / "target")), executed=False)
    info = status(**ROOTS | ({"st_uid": 1000} if others else {}), st_size=4)
    found = Rulings(Allowed(known), NO_LAYERS).quick(msgspec.structs.replace(asked, info=info))
    assert found is not None
    if loads is False or not (others or open_for_writing):
        assert (found.allowed, found.later) == (True, False)
    elif loads is None:
        assert (found.allowed, found.later, found.why) == (False, True, AWAKE)
    else:
        why = WRITTEN if open_for_writing else LOADED
        assert (found.allowed, found.later, found.why) == (False, False, why)
    os.close(handle)
    if open_for_writing:
        os.close(writer)


def status(*, st_uid: int, st_mode: int, st_size: int = 0) -> os.stat_result:
    times = (0, 0, 0, 0.0, 0.0, 0.0, 0, 0, 0)
    return os.stat_result((st_mode, 1, 1, 1, st_uid, 0, st_size, *times))
