"""What the kernel tells of Unix sockets' files, and answers that make no sense."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from ringfence.collect.process import sockdiag

END = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)
"""NLMSG_DONE."""


def told(inode: int, *attributes: bytes) -> bytes:
    body = struct.pack("=BBBBIII", 1, 1, 10, 0, inode, 7, 7) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), 20, 2, 1, 0) + body


def vfs(inode: int, major: int, minor: int) -> bytes:
    return struct.pack("=HHII", 12, 1, inode, major << 20 | minor)


SHUTDOWN = struct.pack("=HHB3x", 5, 6, 0)


def test_files_are_told_by_inode_and_device() -> None:
    found: dict[int, sockdiag.Place] = {}
    data = told(50, SHUTDOWN, vfs(9, 254, 300)) + told(51, SHUTDOWN) + told(52, vfs(8, 0, 27))
    assert sockdiag.parse(data, found)
    assert found == {50: (9, os.makedev(254, 300)), 52: (8, os.makedev(0, 27))}
    assert not sockdiag.parse(told(53, vfs(7, 0, 1)) + END + told(54, vfs(7, 0, 1)), found)
    assert found.keys() == {50, 52, 53}


@pytest.mark.parametrize(
    "data",
    [
        told(50)[:-1],
        b"\0" * 16,
        struct.pack("=IHHII", 0xFFFFFFF0, 20, 2, 1, 0) + told(50, vfs(9, 0, 1)),
        struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -2) + b"\0" * 16,
    ],
)
def test_an_answer_without_sense_ends_it(data: bytes) -> None:
    found: dict[int, sockdiag.Place] = {}
    assert not sockdiag.parse(data + told(51, vfs(9, 0, 1)), found)
    assert found == {}


@pytest.mark.parametrize("attribute", [struct.pack("=HH", 0, 1), struct.pack("=HHI", 12, 1, 5)])
def test_an_attribute_without_sense_tells_no_file(attribute: bytes) -> None:
    found: dict[int, sockdiag.Place] = {}
    assert sockdiag.parse(told(50, attribute), found)
    assert found == {}


def test_of_a_socket_here_the_kernel_tells_the_file(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as loose:
        bound.bind(f"{tmp_path}/s")
        info = os.stat(tmp_path / "s")
        found = sockdiag.bound_files(os.getpid())
        assert found[os.fstat(bound.fileno()).st_ino] == (info.st_ino & 0xFFFFFFFF, info.st_dev)
        assert os.fstat(loose.fileno()).st_ino not in found


def test_where_the_kernel_does_not_tell_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses() -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(sockdiag, "_socket", refuses)
    assert sockdiag.bound_files(os.getpid()) == {}
