"""Lines of mountinfo, and which mount a path lies on."""

from __future__ import annotations

import pytest

from ringfence.collect.process.mounts import parsed
from ringfence.model.mounts import covering
from ringfence.model.process import Mount

LINE = rb"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"


def test_the_line_of_the_manual() -> None:
    (found,) = parsed(LINE)
    assert (found.path, found.root, found.fstype, found.source) == (
        "/mnt 2", "/mnt1", "ext3", "/dev/root")  # fmt: skip
    assert found.device == "98:0"
    assert {"rw", "noatime"} <= found.options


@pytest.mark.parametrize(
    ("mount", "super_block", "read_only"),
    [(b"rw", b"rw", False), (b"ro", b"rw", True), (b"rw", b"ro", True), (b"ro", b"ro", True)],
)
def test_read_only_on_either_level(mount: bytes, super_block: bytes, read_only: bool) -> None:
    (found,) = parsed(b"1 0 8:1 / / " + mount + b" - ext4 /dev/a " + super_block)
    assert ("ro" in found.options) == read_only
    assert ("rw" in found.options) != read_only


def test_a_folder_that_is_called_like_an_option_is_none() -> None:
    """overlayfs shows the lower folder `/x,ro` with its comma escaped (seq_show_option)."""
    (found,) = parsed(rb"1 0 0:9 / / rw - overlay overlay rw,lowerdir=/x\054ro,upperdir=/u")
    assert "ro" not in found.options


def test_the_last_of_the_longest_covers() -> None:
    def at(path: str, source: str) -> Mount:
        return Mount(path, "/", "ext4", source, frozenset({"rw"}))

    mounts = (at("/", "a"), at("/usr", "b"), at("/usr", "c"), at("/usr/local", "d"))
    expected = {
        "/": "a", "/etc": "a", "/usr": "c", "/usr/bin/x": "c", "/usr/local/x": "d", "/usrx": "a",
    }  # fmt: skip
    for path, source in expected.items():
        found = covering(mounts, path)
        assert found is not None
        assert found.source == source
    assert covering((), "/x") is None


PROC = b"""1 0 8:1 / / rw - ext4 /dev/a rw
2 1 0:5 / /proc rw - proc proc rw
3 2 0:5 /sys /proc/sys ro - proc proc rw
"""


def test_a_mount_under_another_one_covers_nothing() -> None:
    """proc mounted anew, over the read-only /proc/sys of the first one."""
    path = "/proc/sys/kernel/core_pattern"
    below = covering(parsed(PROC), path)
    above = covering(parsed(PROC + b"4 2 0:6 / /proc rw - proc proc rw\n"), path)
    assert below is not None
    assert above is not None
    assert ("ro" in below.options, "ro" in above.options) == (True, False)
    assert [item.hidden for item in parsed(PROC)] == [False] * 3


def test_a_mount_whose_root_another_one_lies_on_is_hidden() -> None:
    """Mounted at the same point: on the first one's root, so with that for its parent."""
    first = b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:1 / /v rw - ext4 /dev/a rw\n"
    over = b"3 2 0:9 / /v rw - tmpfs t rw\n"
    below = b"4 2 0:9 / /v/etc rw - tmpfs t rw\n"
    root = b"5 1 0:9 / / rw - tmpfs t rw\n"
    for table, hidden in ((over, {2}), (below, set()), (over + below, {2, 4}), (root, {5})):
        assert {item.number for item in parsed(first + table) if item.hidden} == hidden
