"""When one status is enough: the clock of a pass, and the file systems that go by it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest import mock

import pytest

from ringfence.mountinfo import rows
from ringfence.watch.baseline.rest import MARGIN, clock, own_clock
from ringfence.watch.baseline.walk import mounts_below

LINE = "36 35 {} / /mnt rw,noatime master:1 - {} /dev/x rw,errors=continue"


def devices(table: str) -> frozenset[int]:
    return own_clock(rows(table.encode()))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs"])
def test_file_systems_of_one_kernel(kind: str) -> None:
    assert devices(LINE.format("98:3", kind)) == {os.makedev(98, 3)}


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "overlay", "9p", "cifs", "btrfs", "ext4x"])
def test_others_may_have_another_clock(kind: str) -> None:
    assert devices(LINE.format("98:3", kind)) == frozenset()


def test_optional_fields_may_be_missing_or_many() -> None:
    text = "1 0 8:1 / / rw - ext4 a rw\n2 0 8:2 / /a rw shared:1 master:2 - xfs b rw\n"
    assert devices(text) == {os.makedev(8, 1), os.makedev(8, 2)}


def test_the_root_of_this_machine(tmp_path: Path) -> None:
    known = devices(Path("/proc/self/mountinfo").read_text())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        if tail.split(" ")[0] in ("ext4", "xfs", "tmpfs"):
            place = head.split(" ")[4].replace("\\040", " ")
            if os.access(place, os.R_OK) and os.path.ismount(place):
                assert os.stat(place).st_dev in known


@pytest.mark.parametrize(("seconds", "expected"), [(-3600, True), (-1, True), (-0.3, False),
                                                   (0, False), (3600, False)])  # fmt: skip
def test_a_clock_that_was_set(seconds: float, expected: bool) -> None:
    began = clock()
    assert began.settled == began.began - MARGIN
    real = time.time_ns
    with mock.patch("time.time_ns", lambda: real() + int(seconds * 1e9)):
        assert began.set_back() is expected


def test_a_machine_that_slept_is_no_clock_that_was_set_back() -> None:
    """Both clocks go on meanwhile (clock_gettime(2), CLOCK_BOOTTIME)."""
    began = clock()
    real, boot = time.time_ns, time.clock_gettime_ns
    with (
        mock.patch("time.time_ns", lambda: real() + 10**12),
        mock.patch("time.clock_gettime_ns", lambda which: boot(which) + 10**12),
    ):
        assert not began.set_back()


@pytest.mark.parametrize("odd", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_names_that_look_like_ends_of_lines(odd: str) -> None:
    """The kernel escapes space, tab, newline and backslash alone; anybody may mount in a user
    namespace, at a place that is called as they like."""
    place = f"/t/a{odd}b rw shared:4 - tmpfs x rw"
    text = f"1 0 0:7 / {place.replace(' ', chr(92) + '040')} rw,relatime shared:4 - nfs4 x rw\n"
    assert devices(text) == frozenset()
    assert mounts_below(rows(text.encode()), b"/t") == {os.fsencode(place[3:])}
    assert devices(f"1 0 0:7 / /t/q{odd} rw shared:4 - ext4 x rw\n") == {os.makedev(0, 7)}
    assert devices("1 0 x:7 / /t rw - ext4 a rw\n1 0 shared:4 / /t rw - ext4 a rw") == frozenset()
