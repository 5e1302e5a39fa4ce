"""Who may do what by a POSIX ACL: acl(5)."""

from __future__ import annotations

import pytest

from ringfence.acl import (
    GROUP,
    MASK,
    OTHER,
    OWNER,
    OWNING_GROUP,
    USER,
    Entry,
    entries,
    permits,
    text,
)

READ, WRITE = 4, 2
LIST = (Entry(OWNER, 6), Entry(USER, 6, 7), Entry(USER, 0, 8), Entry(OWNING_GROUP, 4),
        Entry(GROUP, 6, 70), Entry(GROUP, 0, 80), Entry(MASK, 6), Entry(OTHER, 4))  # fmt: skip


@pytest.mark.parametrize(
    ("uid", "gids", "read", "write"),
    [
        (1, (), True, True),
        (7, (), True, True),
        (8, (), False, False),
        (8, (70,), False, False),
        (9, (2,), True, False),
        (9, (70,), True, True),
        (9, (80,), False, False),
        (9, (80, 70), True, True),
        (9, (), True, False),
        (None, (), True, False),
    ],
    ids=["owner", "named", "named, none", "named before groups", "owning group", "group",
         "group, none", "any of its groups", "others", "nobody known"],
)  # fmt: skip
def test_the_order_of_the_manual(
    uid: int | None, gids: tuple[int, ...], read: bool, write: bool
) -> None:
    assert permits(LIST, 1, 2, uid, gids, READ) is read
    assert permits(LIST, 1, 2, uid, gids, WRITE) is write


def test_the_mask_bounds_all_but_owner_and_others() -> None:
    masked = tuple(Entry(MASK, 0) if entry.tag == MASK else entry for entry in LIST)
    assert permits(masked, 1, 2, 1, (), WRITE)
    assert permits(masked, 1, 2, 9, (), READ)
    assert not permits(masked, 1, 2, 7, (), READ)
    assert not permits(masked, 1, 2, 9, (70,), READ)


def test_what_the_kernel_holds() -> None:
    assert entries(b"") == ()
    assert entries(b"\2\0\0\0") == ()
    raw = bytes.fromhex("0200000001000600ffffffff0200060007000000")
    assert entries(raw) == (Entry(OWNER, 6), Entry(USER, 6, 7))
    assert entries(raw[:-1]) is entries(b"\2") is None
    assert text(entries(raw) or ()) == "user::rw-,user:7:rw-"
