"""Whom an image's user is."""

from __future__ import annotations

import pytest

from ringfence.collect.files.accounts import uid_of

PASSWD = b"root:x:0:0::/root:/bin/sh\nadmin:x:0:0\nweb:x:1000:1000\nodd:x:many:1\n7:x:9:9\nshort\n"


@pytest.mark.parametrize(
    ("user", "uid"),
    [("", 0), ("0", 0), ("00", 0), ("+0", 0), ("-0", 0), ("root", 0), ("admin", 0),
     ("admin:web", 0), ("web", 1000), ("1000:0", 1000), ("odd", 0), ("short", 0), ("7", 9),
     ("4294967296", 0),
     ("4294967297:0", 1), ("nobody", None), (" 0", None), ("0x0", None), ("\u0660", None)],
)  # fmt: skip
def test_as_engines_find_it(user: str, uid: int | None) -> None:
    assert uid_of(user, PASSWD) == uid


@pytest.mark.parametrize(
    ("line", "uid"),
    [(b" web:x:7:7", 7), (b"\tweb:x:7:7\r", 7), (b"\x1cweb:x:7:7\nweb:x:0:0", 0),
     (b"web:x:4294967296:7", 0), (b"web:x: 7:7", 0), (b"web:x:7x:7", 0)],
)  # fmt: skip
def test_lines_are_taken_apart_as_go_does(line: bytes, uid: int) -> None:
    assert uid_of("web", line) == uid


def test_without_accounts_numbers_alone_say() -> None:
    assert (uid_of("web", b""), uid_of("00", b"")) == (None, 0)
