"""The table of mounts: what the kernel writes, and what names in it may try."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.mountinfo import Row, rows

LINE = rb"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/ro\134ot rw,errors=continue"


def test_the_line_of_the_manual() -> None:
    assert rows(LINE) == [
        Row(b"98:0", b"/mnt1", b"/mnt 2", b"rw,noatime", b"ext3", rb"/dev/ro\ot",
            b"rw,errors=continue", b"36")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [b"", b"1 2 3", b"1 0 8:1 / / rw ext4 /dev/a rw", b"- - -", b"x", b" - ext4", b"1 2 - ext4 a",
     b"1 0 8:1 / / rw - ext4 a"],
)  # fmt: skip
def test_lines_that_make_no_sense_are_left_out(line: bytes) -> None:
    assert rows(line + b"\n" + LINE) == rows(LINE)


@pytest.mark.parametrize("odd", [b"\r", b"\x0b", b"\x0c", b"\x1c", b"\xc2\x85", b"\xff"])
def test_what_the_kernel_does_not_escape_is_part_of_a_name(odd: bytes) -> None:
    (row,) = rows(b"1 0 0:7 / /t/a" + odd + rb"b\040rw - nfs4 x rw shared:4 - tmpfs x rw".replace(
        b" ", rb"\040") + b" rw - tmpfs x rw\n")  # fmt: skip
    assert row.point == b"/t/a" + odd + b"b rw - nfs4 x rw shared:4 - tmpfs x rw"
    assert row.kind == b"tmpfs"


def test_a_backslash_before_digits_is_one() -> None:
    (row,) = rows(rb"1 0 0:7 / /t/\134040 rw - tmpfs x rw")
    assert row.point == rb"/t/\040"


def test_the_table_of_this_machine() -> None:
    table = Path("/proc/self/mountinfo").read_bytes()
    found = rows(table)
    assert len(found) == len(table.splitlines())
    assert any(row.point == b"/proc" and row.kind == b"proc" for row in found)
