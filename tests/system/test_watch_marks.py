"""Marks follow what happened before its event was read: the events of a whole burst are read at
once, when all of it is over."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.watch.baseline.seal import read_public
from ringfence.watch.baseline.targets import Target, find_target
from ringfence.watch.baseline.walk import Start, open_root
from ringfence.watch.live import fanotify
from ringfence.watch.live.events import parse
from ringfence.watch.live.happening import Gatherer, Happening
from ringfence.watch.live.judge import Judge
from ringfence.watch.live.known import Known
from ringfence.watch.live.marks import REMOVED, RENAMED, REPLACED, Marks
from ringfence.watch.live.told import unmarked
from ringfence.watch.live.who import Census
from tests.system.watch_runs import tmpfs
from tests.watching import Watched

pytestmark = pytest.mark.system


class Reader:
    """Reads when it is asked to, and not before. Its own process is told of like any other."""

    def __init__(self, group: fanotify.Group, marks: Marks) -> None:
        self.marks = marks
        self._group = group
        self._gatherer = Gatherer(marks, Census())

    def read(self) -> bytes:
        """The kernel's queue."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                data += os.read(self._group.fd, 1 << 16)
        return data

    def gathered(self, data: bytes) -> list[Happening]:
        """What events say."""
        return [
            found
            for event in parse(data)
            for found in self._gatherer.gather(event, time.monotonic())
        ]

    def happened(self) -> list[Happening]:
        """All that happened since."""
        return [*self.gathered(self.read()), *self._gatherer.settle(time.monotonic())]

    def released(self) -> list[Happening]:
        """What nothing more is said of."""
        return list(self._gatherer.release())

    def told(self) -> set[tuple[str, str]]:
        """The paths of what happened since, each with everything that happened to it."""
        return {(os.fsdecode(item.path), did) for item in self.happened() for did in item.did}


@contextlib.contextmanager
def reading(
    place: Path, target: Path, *rules: str, only: tuple[bytes, ...] = ()
) -> Iterator[Reader]:
    """A reader of a target, with a baseline of it as it is."""
    watched = Watched(place, target)
    watched.init(*(word for rule in rules for word in ("--rule", rule)))
    known = Known(watched.baseline, read_public(watched.public))
    found = find_target((str(target),), "")
    group = fanotify.Group()
    root = open_root(target)
    start = Start(b"", root, mounts=bool(only))
    try:
        chosen = Target(found.name, found.kind, found.root, only=only)
        yield Reader(group, Marks(group, chosen, start, Judge(known, start, frozenset())))
    finally:
        group.close()
        os.close(root)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A small tree."""
    made = tmp_path / "target"
    (made / "etc/app").mkdir(parents=True)
    (made / "cache/x/y").mkdir(parents=True)
    (made / "etc/conf").write_text("a")
    return made


def test_a_folder_that_was_made_and_renamed_is_watched(target: Path, tmp_path: Path) -> None:
    with reading(tmp_path, target) as reader:
        (target / "new.tmp/sub").mkdir(parents=True)
        (target / "new.tmp/early").write_text("x")
        (target / "new.tmp").rename(target / "once")
        (target / "once").rename(target / "new")
        first = reader.told()
        assert {("new/early", "found"), ("new/sub", "found"), ("new", "rename-to")} <= first
        (target / "new/late").write_text("x")
        (target / "new/sub/late").write_text("x")
        assert {("new/late", "create"), ("new/sub/late", "create")} <= reader.told()


def test_a_folder_made_in_one_that_is_renamed_is_watched(target: Path, tmp_path: Path) -> None:
    with reading(tmp_path, target) as reader:
        (target / "etc/new").mkdir()
        (target / "etc").rename(target / "usr")
        (target / "usr/app").rename(target / "usr/moved")
        reader.told()
        (target / "usr/new/late").write_text("x")
        (target / "usr/moved/late").write_text("x")
        assert reader.told() >= {("usr/new/late", "create"), ("usr/moved/late", "create")}


def test_a_folder_moved_into_one_that_had_no_mark_yet_is_watched(
    target: Path, tmp_path: Path
) -> None:
    with reading(tmp_path, target) as reader:
        (target / "new").mkdir()
        (target / "etc").rename(target / "new/etc")
        reader.told()
        (target / "new/etc/app/late").write_text("x")
        assert ("new/etc/app/late", "create") in reader.told()


def test_a_folder_found_before_the_events_of_how_it_came_there_is_watched(
    target: Path, tmp_path: Path
) -> None:
    with reading(tmp_path, target) as reader:
        (target / "cache/new").mkdir()
        (target / "cache").rename(target / "other")
        (target / "etc").rename(tmp_path / "out")
        (tmp_path / "out").rename(target / "other/new/etc")
        (target / "other").rename(target / "cache")
        # Found in `new` first; then it leaves, and `cache` is elsewhere by the events so far.
        reader.told()
        for folder in ("cache/new/etc", "cache/new/etc/app", "cache/x/y"):
            (target / folder / "late").write_text("x")
            assert (f"{folder}/late", "create") in reader.told()


def test_a_folder_that_left_the_target_is_not_told_of(target: Path, tmp_path: Path) -> None:
    with reading(tmp_path, target) as reader:
        (target / "etc/new").mkdir()
        (target / "etc").rename(tmp_path / "away")
        reader.told()
        (tmp_path / "away/late").write_text("x")
        (tmp_path / "away/new/late").write_text("x")
        assert reader.told() == set()
        (tmp_path / "away").rename(target / "back")
        reader.told()
        (target / "back/new/again").write_text("x")
        assert ("back/new/again", "create") in reader.told()


def test_a_folder_out_of_an_ignored_place_is_watched_and_one_in_it_is_not(
    target: Path, tmp_path: Path
) -> None:
    with reading(tmp_path, target, "/cache/**=ignored") as reader:
        (target / "cache/x/y/quiet").write_text("x")
        assert reader.told() == set()
        (target / "cache/x").rename(target / "bin")
        assert ("bin/y/quiet", "found") in reader.told()
        (target / "bin/evil").write_text("x")
        (target / "bin/y/evil").write_text("x")
        assert {("bin/evil", "create"), ("bin/y/evil", "create")} <= reader.told()


def test_what_is_ignored_no_longer_by_its_new_path_is_watched(target: Path, tmp_path: Path) -> None:
    with reading(tmp_path, target, "/cache/x/**=ignored") as reader:
        (target / "cache/x/y/quiet").write_text("x")
        (target / "cache").rename(target / "bin")
        assert ("bin/x/y", "found") in reader.told()
        (target / "bin/x/y/evil").write_text("x")
        assert ("bin/x/y/evil", "create") in reader.told()


def test_a_folder_beside_the_selection_is_not_marked_when_it_is_renamed(
    target: Path, tmp_path: Path
) -> None:
    with reading(tmp_path, target, only=(b"etc",)) as reader:
        before = len(reader.marks)
        (target / "cache").rename(target / "other")
        (target / "beside").mkdir()
        assert reader.told() == set()
        assert len(reader.marks) == before
        (target / "etc/new").mkdir()
        (target / "etc/new").rename(target / "etc/newer")
        reader.told()
        assert len(reader.marks) == before + 1


def test_folders_that_come_and_go_leave_nothing_owed(target: Path, tmp_path: Path) -> None:
    with reading(tmp_path, target) as reader:
        before = len(reader.marks)
        for number in range(20):
            (target / f"a{number}").mkdir()
            (target / f"a{number}").rename(target / f"b{number}")
            (target / f"b{number}").rmdir()
        reader.told()
        assert (len(reader.marks), reader.marks.owed) == (before, 0)


def test_what_was_in_a_removed_folder_is_told_by_its_path(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "target") as target:
        deep = target / "a/b/c"
        deep.mkdir(parents=True)
        for folder in (deep, target / "a"):
            (folder / "file").write_text("x")
        with reading(tmp_path, target) as reader:
            assert reader.marks.whole
            (deep / "made").write_text("x")
            (deep / "file").rename(target / "saved")
            shutil.rmtree(target / "a")
            happened = reader.happened()
    told = {(os.fsdecode(item.path), did) for item in happened for did in item.did}
    assert told >= {
        ("a/b/c/made", "create"), ("a/b/c/made", "delete"), ("a/b/c/file", "rename-from"),
        ("saved", "rename-to"), ("a/file", "delete"), ("a/b/c", "delete"), ("a/b", "delete"),
        ("a", "delete"),
    }  # fmt: skip
    assert all(item.who is not None for item in happened)
    assert b"a/b/c/file" in {item.other for item in happened}


def test_a_new_folder_at_a_removed_ones_path_is_another(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "target") as target:
        (target / "a").mkdir()
        with reading(tmp_path, target) as reader:
            handle = os.open(target / "a", os.O_RDONLY)
            (target / "a").rmdir()
            (target / "a").mkdir()
            reader.told()
            os.fchmod(handle, 0o700)
            os.close(handle)
            assert reader.told() == set()
            (target / "a").chmod(0o700)
            (target / "a/file").write_text("x")
            assert reader.told() >= {("a", "attributes"), ("a/file", "create")}


def test_what_waits_for_an_event_that_was_lost_is_let_go(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "target") as target:
        (target / "a").mkdir()
        (target / "a/file").write_text("x")
        with reading(tmp_path, target) as reader:
            (target / "a/file").rename(target / "file")
            lost = reader.read()
            (target / "a").rmdir()
            reader.read()
            assert reader.gathered(lost) == []
            assert [(item.path, item.did) for item in reader.released()] == [
                (b"file", ("rename-to",))
            ]
            assert reader.released() == []


def test_a_root_that_is_renamed_or_removed_is_missed(target: Path, tmp_path: Path) -> None:
    with reading(tmp_path, target) as reader:
        (target / "etc").rename(target / "moved")
        assert reader.marks.astray() == ""
        reader.told()
        target.rename(tmp_path / "old")
        assert reader.told() == {("", "rename-from")}
        assert reader.marks.astray() == RENAMED
        target.mkdir()
        assert reader.marks.astray() == RENAMED
        target.rmdir()
        (tmp_path / "old").rename(target)
        assert reader.marks.astray() == ""
        shutil.rmtree(target)
        assert reader.marks.astray() == REMOVED


def test_a_root_whose_path_leads_elsewhere_is_missed(target: Path, tmp_path: Path) -> None:
    (tmp_path / "above/current").mkdir(parents=True)
    link = tmp_path / "above/link"
    link.symlink_to(target)
    with reading(tmp_path, link) as reader:
        assert reader.marks.astray() == ""
        link.unlink()
        link.symlink_to("current")
        assert reader.marks.astray() == REPLACED
    with reading(tmp_path, tmp_path / "above/current") as reader:
        assert reader.marks.astray() == ""
        (tmp_path / "above").rename(tmp_path / "other")
        assert reader.marks.astray() == RENAMED


def test_a_root_that_is_mounted_over_is_in_its_place(target: Path, tmp_path: Path) -> None:
    with reading(tmp_path, target) as reader:
        subprocess.run(["mount", "-t", "tmpfs", "ringfence-test", str(target)], check=True)
        try:
            assert reader.marks.covered()
            assert reader.marks.astray() == ""
        finally:
            subprocess.run(["umount", str(target)], check=True)
        assert not reader.marks.covered()


def test_a_file_system_that_opens_no_handles_is_followed_too(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "layers") as layers, tmpfs(tmp_path / "merged") as merged:
        for name in ("lower/target", "upper", "work"):
            (layers / name).mkdir(parents=True)
        options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
        overlay = ["mount", "-t", "overlay", "ringfence-test", "-o", options, str(merged)]
        subprocess.run(overlay, check=True)
        try:
            with reading(tmp_path, merged / "target") as reader:
                (merged / "target/new.tmp/sub").mkdir(parents=True)
                (merged / "target/new.tmp").rename(merged / "target/new")
                reader.told()
                (merged / "target/new/sub/late").write_text("x")
                assert ("new/sub/late", "create") in reader.told()
        finally:
            subprocess.run(["umount", str(merged)], check=True)


def test_a_folder_that_cannot_be_marked_is_named(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reading(tmp_path, target) as reader:
        monkeypatch.setattr(fanotify.Group, "mark", refuse)
        (target / "new").mkdir()
        assert reader.told() == {("new", "create")}
        assert reader.marks.refused == [(b"new", "no space left on device")]
        assert unmarked(*reader.marks.refused[0]).subject == "/new"


def refuse(*_: object) -> None:
    """As the kernel does where a user may have no more marks."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
