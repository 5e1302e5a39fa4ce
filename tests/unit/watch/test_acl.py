from __future__ import annotations

import pytest

from ringfence.watch.baseline.acl import acl_bytes, acl_text

TEXT = "user::rw-,user:7:r--,group::r-x,mask::r-x,other::---"


def test_text_and_bytes_are_the_same_thing() -> None:
    data = acl_bytes(TEXT)
    assert data is not None
    assert acl_text(data) == TEXT


def test_what_the_mode_says_is_no_acl() -> None:
    assert acl_bytes("user::rw-\ngroup::r--\nother::r--\n") == b""
    assert acl_text(b"") == ""


@pytest.mark.parametrize("text", ["nonsense", "user:no-such-user-here:r--", "odd::r--", "mask:1:r"])
def test_what_makes_no_sense_is_unknown(text: str) -> None:
    assert acl_bytes(f"user::rw-,{text},group::r--,other::r--") is None


@pytest.mark.parametrize("data", [b"x", b"\2\0\0\0abc"])
def test_broken_bytes_are_shown_as_such(data: bytes) -> None:
    assert acl_text(data).startswith("unreadable")
