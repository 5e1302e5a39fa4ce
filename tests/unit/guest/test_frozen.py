"""The layer that keeps a qcow2 image's checked header in front of its file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from ringfence.collect.guest.qcow2 import read_header
from ringfence.collect.guest.source import Source
from ringfence.errors import InputError
from ringfence.guest.frozen import frozen
from tests.unit.guest.test_kinds import qcow2

CLUSTER = 2 << 20


def test_what_is_checked_is_what_is_kept(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(qcow2() + b"tables")
    with image.open("r+b") as file, frozen(file.fileno(), "x") as made:
        file.write(qcow2(backing=112))
        file.flush()
        kept = os.pread(made, CLUSTER, 5 * CLUSTER)
        assert kept == (qcow2() + b"tables").ljust(CLUSTER, b"\0")
        assert fcntl.fcntl(made, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        with pytest.raises(PermissionError):
            os.write(os.open(f"/proc/self/fd/{made}", os.O_RDWR), b"x")
        with (
            pytest.raises(InputError, match="x: a qcow2 image that refers"),
            frozen(file.fileno(), "x"),
        ):
            pass


@pytest.mark.parametrize("size", [513, CLUSTER, 1 << 40])
def test_the_layer_is_as_large_as_the_file_and_names_none(size: int, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(qcow2())
    os.truncate(image, size)
    with image.open("rb") as file, frozen(file.fileno(), "x") as made:
        head = os.pread(made, 4096, 0)
    header = read_header(Source(head, "x"))
    assert header.size == size + 511 & ~511
    assert not header.backing and not header.data_file
