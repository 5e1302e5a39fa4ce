"""The archive of a virtual machine: read back by cpio(1), and the same bytes each time."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.errors import InputError
from ringfence.harden.vm.cpio import Member, archive

MEMBERS = (
    Member(".", stat.S_IFDIR | 0o755),
    Member("etc", stat.S_IFDIR | 0o750, gid=33),
    Member("etc/x", stat.S_IFREG | 0o640, 33, 34, b"made\n"),
    Member("etc/empty", stat.S_IFREG | 0o600),
    Member("sbin", stat.S_IFLNK | 0o777, body=b"usr/sbin"),
    Member(os.fsdecode(b"odd \xff name"), stat.S_IFREG | 0o644, body=bytes(range(256))),
)


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_unpacks_what_was_packed(tmp_path: Path) -> None:
    subprocess.run(
        ["cpio", "-idm", "--quiet"], input=archive(MEMBERS, 86400), cwd=tmp_path, check=True
    )
    for member in MEMBERS[1:]:  # cpio leaves the folder that it stands in as it is
        path = tmp_path / member.path
        found = path.lstat()
        assert stat.S_IFMT(found.st_mode) == stat.S_IFMT(member.mode), member.path
        if stat.S_ISLNK(found.st_mode):
            assert os.readlink(path).encode() == member.body
            continue
        assert stat.S_IMODE(found.st_mode) == stat.S_IMODE(member.mode), member.path
        if stat.S_ISREG(found.st_mode):
            assert path.read_bytes() == member.body
            assert int(found.st_mtime) == 86400
        if os.geteuid() == 0:
            assert (found.st_uid, found.st_gid) == (member.uid, member.gid)


def test_the_same_members_give_the_same_bytes_and_others_do_not() -> None:
    assert archive(MEMBERS) == archive(list(MEMBERS))
    assert archive(MEMBERS) != archive(MEMBERS, 1)
    assert archive(MEMBERS) != archive(MEMBERS[:-1])


@given(st.lists(st.binary(max_size=9), max_size=5), st.text("ab/", min_size=1, max_size=9))
def test_members_are_aligned_whatever_their_sizes(bodies: list[bytes], name: str) -> None:
    name = name.lstrip("/") or "a"
    data = archive([Member(name, stat.S_IFREG, body=body) for body in bodies])
    at, found = 0, []
    while True:
        assert at % 4 == 0 and data[at : at + 6] == b"070701"
        size, length = (int(data[at + place : at + place + 8], 16) for place in (54, 94))
        start = at + 110 + length + -(at + 110 + length) % 4
        if data[at + 110 : at + 110 + length] == b"TRAILER!!!\0":
            break
        found.append(data[start : start + size])
        at = start + size + -(start + size) % 4
    assert found == bodies


@pytest.mark.parametrize(
    "member",
    [Member("/etc", 0), Member("", 0), Member("a\0b", 0), Member("a", 0, uid=1 << 32),
     Member("a", 0, gid=-1)],
)  # fmt: skip
def test_what_does_not_fit_is_refused(member: Member) -> None:
    with pytest.raises(InputError):
        archive([member])
