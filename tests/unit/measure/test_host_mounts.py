"""Paths of the host that are mounted into a container, told by the file system's number."""

from __future__ import annotations

import pytest

from ringfence.measure.conditions.files import _origin
from ringfence.model.process import Mount

HOST = (
    Mount("/", "/", "ext4", "/dev/a", frozenset({"rw"}), "8:1"),
    Mount("/home", "/", "ext4", "/dev/b", frozenset({"rw"}), "8:2"),
    Mount("/run", "/", "tmpfs", "tmpfs", frozenset({"rw"}), "0:24"),
    Mount("/srv", "/export", "ext4", "/dev/c", frozenset({"rw"}), "8:3"),
)


@pytest.mark.parametrize(
    ("device", "root", "fstype", "expected"),
    [
        ("8:1", "/", "ext4", "/"),
        ("8:1", "/etc", "ext4", "/etc"),
        ("8:2", "/", "ext4", "/home"),
        ("8:2", "/me", "ext4", "/home/me"),
        ("0:24", "/docker.sock", "tmpfs", "/run/docker.sock"),
        ("8:3", "/export/x", "ext4", "/srv/x"),
        ("8:3", "/exported", "ext4", ""),
        ("8:9", "/", "ext4", ""),
        ("0:99", "/", "tmpfs", ""),
        ("0:98", "/", "overlay", ""),
    ],
)
def test_where_a_mount_comes_from(device: str, root: str, fstype: str, expected: str) -> None:
    item = Mount("/inside", root, fstype, "source", frozenset({"rw"}), device)
    assert _origin(item, HOST) == expected


def test_a_mount_that_a_configuration_describes_names_its_source() -> None:
    assert _origin(Mount("/x", "/etc", "bind", "/etc", frozenset()), HOST) == "/etc"
    assert _origin(Mount("/tmp", "/", "tmpfs", "tmpfs", frozenset()), HOST) == ""
