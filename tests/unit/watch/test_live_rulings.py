"""Which files are read for a decision, and which are refused unread."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.watch.live.allowed import Allowed
from ringfence.watch.live.known import Known
from ringfence.watch.live.layers import Layers
from ringfence.watch.live.naming import Names
from ringfence.watch.live.ruling import MOST_FOREIGN, OTHER, OUTSIDE, UNKNOWN, Rulings, question
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
        for ruling in (rulings.quick(asked), rulings.full(asked)):
            assert ruling is not None
            assert (ruling.allowed, ruling.why, ruling.digest) == (False, why, b"")
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
    ruling = rulings.full(asked)
    assert (ruling.allowed, ruling.why) == (allowed, "" if allowed else OTHER)
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
    ruling = rulings.full(asked)
    assert (ruling.allowed, ruling.why, bool(ruling.digest)) == (False, UNKNOWN, read)
    os.close(handle)
