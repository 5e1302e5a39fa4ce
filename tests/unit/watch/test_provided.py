"""What an engine puts into a container is told apart by what is mounted there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ringfence.mountinfo import Row
from ringfence.watch.baseline.compare import Change
from ringfence.watch.baseline.entry import DIRECTORY, FILE, LINK, Entry
from ringfence.watch.baseline.provided import Provided

DISK, OTHER = b"254:0", b"0:99"
KEPT = "overlay-containers/" + "a1" * 32 + "/userdata"


def row(point: str, kind: bytes = b"ext4", root: bytes = b"/", device: bytes = OTHER) -> Row:
    return Row(1, 0, device, root, point.encode(), b"rw", kind, b"none", b"rw")


def folder(name: str, mode: int = 0o755) -> Entry:
    return Entry(name.rpartition("/")[2].encode(), DIRECTORY, mode, 0, 0)


def file(name: str, mode: int = 0o644, inode: int = 0, size: int = 5) -> Entry:
    return Entry(name.encode(), FILE, mode, 0, 0, size, inode=inode)


def has(mounts: list[Row], path: str, old: Entry | None, new: Entry | None, *own: Row) -> bool:
    return Provided(mounts, list(own)).has(Change(path.encode(), old, new))


@pytest.mark.parametrize(("path", "kind"), [("proc", b"proc"), ("sys", b"sysfs"),
                                            ("dev", b"tmpfs")])  # fmt: skip
def test_the_kernels_own_file_systems_at_their_places(path: str, kind: bytes) -> None:
    now = folder(path, 0o555)
    for old in (None, folder(path)):
        assert has([row(f"/{path}", kind)], path, old, now)
    assert has([row(f"/{path}", kind)], f"{path}/null", file("null"), None)
    assert not has([], path, folder(path), now)
    assert not has([row("/other", kind)], "other", None, folder("other"))
    assert not has([row(f"/{path}", kind, b"/below")], path, None, now)
    assert not has([row(f"/{path}", kind), row(f"/{path}")], path, None, now)
    assert not has([row(f"/{path}", kind)], "etc/null", file("null"), None)
    assert not has([row(f"/{path}", b"ext4")], path, None, now)


def hosts(tmp_path: Path) -> tuple[Entry, Row, Row]:
    """An engine's file, its mount in the container, and the file system that this host has."""
    place = tmp_path / KEPT
    place.mkdir(parents=True)
    (place / "hosts").write_text("1.2.3.4")
    inode = (place / "hosts").stat().st_ino
    mounted = row("/etc/hosts", root=f"/run/{KEPT}/hosts".encode(), device=DISK)
    return file("hosts", inode=inode), mounted, row(str(tmp_path), root=b"/run", device=DISK)


def test_an_engines_file_is_the_one_that_this_host_has(tmp_path: Path) -> None:
    new, mounted, own = hosts(tmp_path)
    for old in (None, file("hosts", inode=1)):
        assert has([mounted], "etc/hosts", old, new, own)
    assert not has([], "etc/hosts", None, new, own), "a file of the container itself"
    assert not has([mounted], "etc/passwd", None, new, own), "another name"
    assert not has([mounted, mounted], "etc/hosts", None, new, own), "something over it"
    made_inside = msgspec.structs.replace(mounted, device=OTHER)
    assert not has([made_inside], "etc/hosts", None, new, own), "such a path on a tmpfs of its own"
    elsewhere = msgspec.structs.replace(mounted, root=b"/run/other/hosts")
    assert not has([elsewhere], "etc/hosts", None, new, own), "another folder of the host"
    replaced = msgspec.structs.replace(new, inode=(new.inode or 0) + 1)
    assert not has([mounted], "etc/hosts", None, replaced, own), "another file"
    for mode in (0o4644, 0o755):
        program = msgspec.structs.replace(new, mode=mode)
        assert not has([mounted], "etc/hosts", None, program, own), "what can be executed"


def test_what_holds_nothing() -> None:
    mounts = [row("/run/secrets/x")]
    assert has(mounts, "run", None, folder("run"))
    assert not has(mounts, "run", None, folder("run", 0o777))
    assert not has(mounts, "opt", None, folder("opt"))
    assert has([], ".dockerenv", None, file(".dockerenv", 0o755, size=0))
    assert not has([], ".dockerenv", None, file(".dockerenv", 0o755))
    for target, same in ((b"/proc/mounts", True), (b"/tmp/mounts", False)):
        assert has([], "etc/mtab", None, Entry(b"mtab", LINK, target=target)) is same
    assert has([], "", folder(""), folder("", 0o555))
    assert not has([], "", folder(""), folder("", 0o777))


def test_the_root_of_another_file_system_over_a_folder_is_told_apart() -> None:
    found = Provided([row("/data")], [])
    assert found.has(Change(b"data", folder("data"), folder("data", 0o777), ("mode",)))
    assert not found.has(Change(b"data", None, folder("data"))), "no folder of the image"
    assert not found.has(Change(b"data/x", file("x"), None)), "what is covered is missed"
    assert not found.has(Change(b"else", folder("else"), folder("else", 0o777), ("mode",)))
    assert found.notes() == ("mounted over a folder of the image, which is not seen: /data",)
