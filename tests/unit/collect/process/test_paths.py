"""Paths of the knowledge base as a workload sees them."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from ringfence.acl import ATTRIBUTE, MASK, OTHER, OWNER, OWNING_GROUP, UNDEFINED, USER, Entry
from ringfence.collect.process.paths import path_facts
from ringfence.knowledge.records import PathEntry
from ringfence.model.process import PathFact

LIST = (Entry(OWNER, 6), Entry(USER, 6, 1000), Entry(OWNING_GROUP, 6), Entry(MASK, 6),
        Entry(OTHER, 0))  # fmt: skip
RAW = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", entry.tag, entry.bits, entry.number) for entry in LIST
)
ENTRY = PathEntry(id="x", title="X", sources=(), globs=("/run/x",), kind="file", access="write")


def fact(root: Path) -> PathFact:
    (root / "run").mkdir()
    (root / "run/x").touch(0o660)
    (found,) = path_facts(str(root), (ENTRY,), (), None)
    return found


def test_a_list_of_further_users_is_read(tmp_path: Path) -> None:
    assert fact(tmp_path).acl == ()
    try:
        os.setxattr(tmp_path / "run/x", ATTRIBUTE, RAW)
    except OSError:
        pytest.skip("no ACLs on this file system")
    (found,) = path_facts(str(tmp_path), (ENTRY,), (), None)
    assert found.acl == LIST
    assert {entry.number for entry in LIST} == {1000, UNDEFINED}


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENODATA, ()), (errno.EOPNOTSUPP, ()), (errno.EACCES, None)]
)
def test_a_list_that_may_not_be_read_is_not_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, expected: tuple[()] | None
) -> None:
    def refuse(*_path: object, **_rest: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "getxattr", refuse)
    assert fact(tmp_path).acl == expected
