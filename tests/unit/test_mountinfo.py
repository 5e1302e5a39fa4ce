"""The table of mounts: what the kernel writes, and what names in it may try."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.mountinfo import Row, reached, rows

LINE = rb"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/ro\134ot rw,errors=continue"


def test_the_line_of_the_manual() -> None:
    assert rows(LINE) == [
        Row(36, 35, b"98:0", b"/mnt1", b"/mnt 2", b"rw,noatime", b"ext3", rb"/dev/ro\ot",
            b"rw,errors=continue")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [b"", b"1 2 3", b"1 0 8:1 / / rw ext4 /dev/a rw", b"- - -", b"x", b" - ext4", b"1 2 - ext4 a",
     b"1 0 8:1 / / rw - ext4 a", b"a 0 8:1 / / rw - ext4 a rw", b"1 b 8:1 / / rw - ext4 a rw"],
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


def _reached(*mounts: tuple[int, int, str]) -> set[int]:
    """Of mounts (number, parent, point) those that some path leads to."""
    lines = (f"{number} {parent} 8:1 / {point} rw - ext4 x rw" for number, parent, point in mounts)
    return reached(rows("\n".join(lines).encode()))


ROOT = (2, 1, "/")


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ([(3, 2, "/a"), (4, 3, "/a/b"), (5, 2, "/ab")], {2, 3, 4, 5}),
        ([(3, 2, "/a/b"), (4, 2, "/a")], {2, 4}),
        ([(4, 2, "/a"), (3, 2, "/a/b")], {2, 4}),
        ([(3, 2, "/a"), (4, 3, "/a"), (5, 3, "/a/b"), (6, 4, "/a/b")], {2, 4, 6}),
        ([(3, 2, "/a"), (4, 2, "/a-b"), (5, 2, "/a/b/c"), (6, 2, "/a!")], {2, 3, 4, 6}),
        ([(3, 2, "/"), (4, 3, "/etc"), (5, 2, "/usr")], {2, 5}),
    ],
    ids=["apart", "above", "above, listed first", "stacked", "names alike", "over the root"],
)  # fmt: skip
def test_what_no_path_leads_to_is_not_reached(
    mounts: list[tuple[int, int, str]], expected: set[int]
) -> None:
    assert _reached(ROOT, *mounts) == expected
    assert _reached(*reversed(mounts), ROOT) == expected


def test_a_root_directory_that_is_no_mount() -> None:
    assert _reached((3, 1, "/proc"), (4, 1, "/dev"), (5, 4, "/dev/pts")) == {3, 4, 5}
    assert _reached((3, 1, "/"), (4, 1, "/dev")) == {4}
    assert _reached() == set()


def test_thousands_of_mounts_on_one_another_take_no_time() -> None:
    deep = [(number, number - 1, "/c" + "/d" * 1800) for number in range(3, 5000)]
    assert _reached(ROOT, *deep) == {2, 4999}  # the root, and the one on top of all
