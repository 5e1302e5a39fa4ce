"""Where an overlay keeps what was changed, by the mount table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.watch.live.layers import Layers, is_overlay, upper_of

ROW = "36 35 0:56 {root} /t rw,relatime - {kind} ov rw,lowerdir=/l,upperdir={upper},workdir=/w\n"


@pytest.mark.parametrize(
    ("kind", "root", "upper", "found"),
    [
        ("overlay", "/", "/u", b"/u"),
        ("overlay", "/app", "/u", b"/u/app"),
        ("overlay", "/", r"/a\054upperdir=b\040c", b"/a,upperdir=b c"),
        ("overlay", "/", "u", b""),
        ("ext4", "/", "/u", b""),
    ],
)
def test_the_upper_layer_is_named_by_the_mount_table(
    kind: str, root: str, upper: str, found: bytes
) -> None:
    table = ROW.format(kind=kind, root=root, upper=upper).encode()
    assert upper_of(table, b"/t") == found
    assert upper_of(table, b"/elsewhere") == b""


def test_what_is_mounted_last_counts() -> None:
    rows = [ROW.format(kind="overlay", root="/", upper=upper) for upper in ("/first", "/last")]
    assert upper_of("".join(rows).encode(), b"/t") == b"/last"


def test_without_an_upper_layer_only_what_is_older_than_the_watch_is_safe(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    info = file.stat()
    assert Layers(b"", info.st_ctime_ns + 1, lambda _: False).held(b"file", info) is False
    assert Layers(b"", info.st_ctime_ns, lambda _: False).held(b"file", info) is None


@pytest.mark.parametrize("written", [True, False])
def test_the_upper_layers_file_is_asked_if_it_is_the_same(tmp_path: Path, written: bool) -> None:
    file = tmp_path / "folder" / "file"
    file.parent.mkdir()
    file.write_text("x")
    info = file.stat()
    settled = Layers(bytes(tmp_path), info.st_ctime_ns, lambda _: written)
    assert settled.held(b"folder/file", info) is None, "changed a moment ago"
    old = os.stat("/bin/sh")
    layers = Layers(b"/", old.st_ctime_ns, lambda _: written)
    place = os.path.realpath("/bin/sh").encode().lstrip(b"/")
    assert layers.held(place, old) is written
    assert layers.held(place, info) is None, "it is another file"


def test_this_machines_proc_is_no_overlay() -> None:
    with open("/proc/self/stat") as file:
        assert not is_overlay(file.fileno())
