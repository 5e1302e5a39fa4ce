"""Folders that somebody may write, in a tree of a test's own."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from ringfence.model.evidence import Seen
from ringfence.model.process import Mount
from ringfence.probe import folders
from ringfence.probe.folders import Folders
from tests.unit.measure.test_admin import SAID, process

STRANGER = 65_000
"""Not who made the tree, nor of a group of its."""
PLAIN = (("/", "ext4", "rw"),)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree in which one folder is everybody's, another one its owner's."""
    for name, mode in (("app", 0o755), ("app/data", 0o777), ("own", 0o755), ("shut", 0o700),
                       ("shut/data", 0o777)):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    (tmp_path / "link").symlink_to("app/data")
    tmp_path.chmod(0o755)
    return tmp_path


def sought(
    root: Path,
    mounts: tuple[tuple[str, str, str], ...] | None = PLAIN,
    uid: int = STRANGER,
    capabilities: tuple[str, ...] = (),
) -> Folders:
    """`mounts` are paths, kinds and options."""
    seen = None if mounts is None else tuple(
        Mount(path, "/", kind, "x", frozenset(options.split(","))) for path, kind, options in mounts
    )  # fmt: skip
    who = process(uid=uid, gid=uid, effective=frozenset(capabilities))
    return Folders(msgspec.structs.replace(who, mounts=Seen(seen, SAID)), str(root))


def test_what_a_mode_permits_is_found_and_what_cannot_be_reached_is_not(root: Path) -> None:
    found = sought(root)
    assert (found.found, found.whole) == (("/app/data",), True)
    every = sought(root, capabilities=("CAP_DAC_OVERRIDE",))
    assert {"/", "/own", "/shut/data"} <= set(every.found)


def test_an_owner_has_more(root: Path) -> None:
    found = sought(root, uid=os.getuid())
    assert {"/own", "/shut/data"} <= set(found.found)
    (root / "own").chmod(0o555)
    found = sought(root, uid=os.getuid())
    assert "/own" not in found.found
    assert not found.whole, "its owner may change its mode"


@pytest.mark.parametrize("options", ["ro", "rw,noexec"])
def test_mounts_that_permit_no_execution_are_not_looked_through(root: Path, options: str) -> None:
    found = sought(root, (("/", "ext4", options),))
    assert (found.found, found.whole) == ((), True)
    inner = sought(root, (("/", "ext4", options), ("/app", "ext4", "rw")))
    assert (inner.found, inner.whole) == (("/app/data",), True)
    outer = sought(root, (*PLAIN, ("/app", "ext4", options)))
    assert (outer.found, outer.whole) == ((), True)
    covered = sought(root, (*PLAIN, ("/", "ext4", options)))
    assert covered.found == ()


def test_what_was_not_looked_through_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not sought(root, None).whole
    assert not sought(root, (("/", "nfs4", "rw"),)).whole
    assert sought(root, (("/", "fuse.fuse-overlayfs", "rw"),)).found == ("/app/data",)
    monkeypatch.setattr(folders, "MOST_LOOKED_AT", 2)
    assert not sought(root).whole
