"""Races on purpose: what is swapped, grows or is mounted while a check looks at it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringfence.watch.baseline.passes import Pass, looking
from ringfence.watch.baseline.rules import Rules
from ringfence.watch.baseline.store import _frames, unpacked
from ringfence.watch.baseline.targets import find_target
from tests.system.conftest import program
from tests.watching import Watched, paths

pytestmark = pytest.mark.system
MARK = "outside the tree"


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[list[int]]:
    """`act` again and again in a thread; the list's length is how often."""
    done = threading.Event()
    count: list[int] = []

    def loop() -> None:
        while not done.is_set():
            act()
            count.append(1)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield count
    finally:
        done.set()
        thread.join()


def digests(root: Path) -> dict[bytes, bytes | None]:
    """Path -> digest of one pass."""
    found = {}
    target = find_target((str(root),))
    with looking(target, Pass("sha256", Rules([]))) as lots:
        for seen in lots:
            for data in seen.frames:
                for folder, entries in unpacked(_frames.decode(data).body):
                    found.update({folder + b"/" + entry.name: entry.digest for entry in entries})
    return found


def filled(root: Path, folders: int = 20, files: int = 20) -> Path:
    for folder in range(folders):
        (root / str(folder)).mkdir(parents=True)
        for file in range(files):
            (root / str(folder) / str(file)).write_text(f"{folder}/{file}")
    return root


def test_a_folder_swapped_for_a_symlink_never_leads_outside(tmp_path: Path) -> None:
    root = filled(tmp_path / "tree")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text(MARK)
    (root / "link").symlink_to(outside)
    place, aside = root / "10", root / "aside"

    def swap() -> None:
        place.rename(aside)
        place.symlink_to(outside)
        place.unlink()
        aside.rename(place)

    with meanwhile(swap) as swaps:
        passes = [digests(root) for _ in range(60)]
    assert len(swaps) > 60
    names = {name for found in passes for name in found}
    assert not any(b"secret" in name for name in names)
    assert all(found[b"/9"] is None and b"9/1" in found for found in passes)


def test_a_file_swapped_by_rename_is_one_of_the_two_never_a_mixture(tmp_path: Path) -> None:
    import hashlib

    root = tmp_path / "tree"
    root.mkdir()
    bodies = [bytes([letter]) * 3_000_000 for letter in b"ab"]
    expected = {hashlib.sha256(body).digest() for body in bodies}
    (root / "file").write_bytes(bodies[0])
    spare = tmp_path / "spare"

    turns = itertools.cycle(bodies)

    def swap() -> None:
        spare.write_bytes(next(turns))
        spare.rename(root / "file")

    with meanwhile(swap):
        seen = [digests(root)[b"/file"] for _ in range(60)]
    assert {digest for digest in seen if digest is not None} <= expected
    assert any(seen)


def test_a_file_swapped_for_a_fifo_or_device_is_never_waited_for(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    place = root / "file"
    place.write_text("plain")

    def swap() -> None:
        for make in (os.mkfifo, lambda path: os.mknod(path, 0o20644, os.makedev(1, 5))):
            make(tmp_path / "odd")
            os.rename(tmp_path / "odd", place)
            (tmp_path / "spare").write_text("plain")
            os.rename(tmp_path / "spare", place)

    with meanwhile(swap) as swaps:
        seen = {digests(root).get(b"/file") for _ in range(100)}
    assert len(swaps) > 100
    assert len(seen - {None}) == 1


def whole(lines: list[str]) -> Iterator[str]:
    """Calls of a trace by `strace -f`, those that another process came between put together."""
    begun: dict[str, str] = {}
    for line in lines:
        pid, _, call = line.partition(" ")
        if call.endswith(" <unfinished ...>"):
            begun[pid] = call.removesuffix(" <unfinished ...>")
        elif " resumed>" in call and pid in begun:
            yield f"{pid} {begun.pop(pid)}{call.partition(' resumed>')[2]}"
        else:
            yield line


def test_devices_and_fifos_are_never_opened(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    os.mkfifo(root / "a-fifo")
    os.mknod(root / "a-device", 0o20666, os.makedev(1, 3))
    (root / "plain").write_text("x")
    watched = Watched(tmp_path, root)
    watched.init()
    trace = tmp_path / "trace"
    subprocess.run(
        [program("strace"), "-f", "-y", "-e", "trace=openat,openat2", "-o", str(trace),
         sys.executable, "-m", "ringfence", "watch", "check", str(root),
         "--baseline", str(watched.baseline), "--public-key", str(watched.public)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    # In a private view of the tree paths begin with its root.
    opened = [line.rpartition("=")[2] for line in whole(trace.read_text().splitlines())
              if "O_PATH" not in line]  # fmt: skip
    assert any("/plain>" in line for line in opened)
    assert not any(name in line for line in opened for name in ("/a-fifo>", "/a-device>"))


def test_a_file_that_never_stands_still_is_said_to_be_unread(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    busy = root / "busy"
    busy.write_bytes(bytes(60_000_000))
    watched = Watched(tmp_path, root)
    watched.init()
    with busy.open("r+b", buffering=0) as file:

        def write() -> None:
            file.seek(0)
            file.write(b"x")
            file.seek(0)
            file.write(b"\0")

        with meanwhile(write):
            report = watched.report()
    assert report["unseen"] == [{"path": "/busy", "why": "it changes while it is read"}]
    assert report["changed"][0]["attributes"] == {"unread": [None, "it changes while it is read"]}
    assert watched.changed() == {}


def test_a_log_that_grows_while_it_is_read_is_what_it_was(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    log = root / "log"
    log.write_bytes(b"line\n" * 400_000)
    watched = Watched(tmp_path, root)
    watched.init("--rule", "/log=grows")
    with log.open("ab", buffering=0) as file:

        def write() -> None:
            file.write(b"more\n")

        with meanwhile(write):
            for _ in range(10):
                assert watched.changed() == {}


def test_mounts_over_the_target_are_reported_and_not_entered(tmp_path: Path) -> None:
    root = filled(tmp_path / "tree", 3, 3)
    other = filled(tmp_path / "other", 1, 1)
    (other / "file").write_text(MARK)
    watched = Watched(tmp_path, root)
    watched.init()
    for source, place in ((other, root / "1"), (other / "file", root / "2" / "0")):
        subprocess.run(["mount", "--bind", str(source), str(place)], check=True)
        try:
            report = watched.report()
        finally:
            subprocess.run(["umount", str(place)], check=True)
        name = "/" + str(place.relative_to(root))
        found = {item["path"]: item for item in report["changed"]}
        assert found[name]["attributes"]["mount"] == [False, True], report
        assert found[name]["severity"] == "critical"
        assert not report["added"]
        if place.is_dir():
            assert paths(report["removed"]) == ["/1/0", "/1/1", "/1/2"]
            assert report["unseen"][0]["path"] == "/1"
    assert watched.changed() == {}


def test_a_mount_that_a_rule_ignores_is_not_spoken_of(tmp_path: Path) -> None:
    root = filled(tmp_path / "tree", 3, 3)
    watched = Watched(tmp_path, root)
    for rule, spoken in (("/1=ignored", []), ("/2=ignored", ["/1"])):
        subprocess.run(["mount", "-t", "tmpfs", "none", str(root / "1")], check=True)
        try:
            watched.init("--rule", rule)
            report = watched.report()
        finally:
            subprocess.run(["umount", str(root / "1")], check=True)
        assert paths(report["unseen"]) == spoken
        assert not (report["added"] or report["removed"] or report["changed"])


def test_a_mount_below_another_one_is_no_mount_any_more(tmp_path: Path) -> None:
    """The table of mounts still names it; what is seen there is a plain folder."""
    root = filled(tmp_path / "tree", 3, 3)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(root / "1")], check=True)
    subprocess.run(["mount", "--bind", str(root), str(root)], check=True)
    try:
        watched = Watched(tmp_path, root)
        watched.init()
        (root / "1" / "0").write_text("changed")
        report = watched.report()
    finally:
        subprocess.run(["umount", str(root)], check=True)
        subprocess.run(["umount", str(root / "1")], check=True)
    assert report["unseen"] == []
    assert paths(report["changed"]) == ["/1/0"]


@pytest.mark.parametrize("odd", ["\r", "\x0b", "\u2028"])
def test_a_mount_point_with_an_odd_name(tmp_path: Path, odd: str) -> None:
    root = filled(tmp_path / "tree", 2, 1)
    place = root / f"a{odd}b"
    place.mkdir()
    (place / "hidden").write_text("nobody sees it")
    watched = Watched(tmp_path, root)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
    try:
        watched.init()
        report = watched.report()
        assert len(report["unseen"]) == 1
        assert report["unseen"][0]["why"] == "another file system is mounted here: not entered"
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert [path.rpartition("/")[2] for path in paths(watched.report()["added"])] == ["hidden"]


def test_few_descriptors_are_enough(tmp_path: Path) -> None:
    root = filled(tmp_path / "tree", 75, 1)  # of one unit
    watched = Watched(tmp_path, root)
    watched.init()
    done = subprocess.run(
        ["bash", "-c", 'ulimit -n 32; exec "$@"', "bash", sys.executable, "-m", "ringfence",
         "watch", "check", str(root), "--baseline", str(watched.baseline),
         "--public-key", str(watched.public), "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["unseen"] == []


def test_long_paths_and_odd_names(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    handle = os.open(root, os.O_RDONLY)
    name = b"\xff\n" + b"n" * 250
    for _ in range(60):  # 15,000 bytes deep: no single path reaches it
        os.mkdir(name, dir_fd=handle)
        below = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    file = os.open(b"deep", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=handle)
    os.write(file, b"one")
    watched = Watched(tmp_path, root)
    watched.init()
    assert watched.changed() == {}
    os.pwrite(file, b"two", 0)
    os.close(file)
    os.close(handle)
    ((path, names),) = watched.changed().items()
    assert names == ["sha256"]
    assert path.endswith("/deep")
    assert len(path) > 15_000
    subprocess.run(["rm", "-rf", str(root)], check=True)


def test_a_sparse_file_costs_what_is_in_it(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    huge = root / "huge"
    with huge.open("wb") as file:
        file.truncate(8 << 40)
        file.seek(5 << 40)
        file.write(b"somewhere in the middle")
    watched = Watched(tmp_path, root)
    watched.init()
    assert watched.changed() == {}
    with huge.open("r+b") as file:
        file.seek(5 << 40)
        file.write(b"SOMEWHERE in the middle")
    assert watched.changed() == {"/huge": ["sha256-nonzero"]}
    with huge.open("r+b") as file:
        file.seek(5 << 40)
        file.write(b"somewhere in the middle")
        file.seek(1 << 40)
        file.write(bytes(5000))  # zeros, but on the disk: the content is the same
    assert watched.changed() == {}
    assert watched.report()["checked"]["bytes_read"] < 1 << 20


def test_hard_links_are_each_reported(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a").write_text("one")
    os.link(root / "a", root / "b")
    watched = Watched(tmp_path, root)
    watched.init()
    assert watched.changed() == {}
    (root / "b").write_text("two")
    assert watched.changed() == {"/a": ["sha256"], "/b": ["sha256"]}
