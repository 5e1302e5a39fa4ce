"""Images, archives and containers: the same files are the same, wherever they lie."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.images import Entry, folder, hard, layer, link, oci_archive
from tests.system.conftest import program
from tests.watching import Watched, paths

pytestmark = pytest.mark.system


def checked_elsewhere(watched: Watched, other: object) -> Watched:
    """The same baseline beside another target."""
    watched.targets = (other,)
    return watched


def test_a_root_file_system_packed_and_unpacked_is_the_same(
    rootfs_tar: Path, rootfs: Path, tmp_path: Path
) -> None:
    watched = Watched(tmp_path, rootfs_tar)
    watched.init()
    assert watched.changed() == {}
    report = checked_elsewhere(watched, rootfs).report()
    assert [report[word] for word in ("added", "removed", "changed")] == [[], [], []]
    assert "links" in report["not_compared"]
    assert report["checked"]["entries"] > 5000


def test_the_other_way_round(rootfs_tar: Path, rootfs: Path, tmp_path: Path) -> None:
    watched = Watched(tmp_path, rootfs)
    watched.init("--with", "mtime")
    assert checked_elsewhere(watched, rootfs_tar).changed() == {}


def test_one_changed_file_of_an_archive(tmp_path: Path) -> None:
    def archive(name: str, body: bytes, mode: int = 0o644) -> Path:
        path = tmp_path / name
        path.write_bytes(layer([folder("etc"), Entry("etc/a.conf", body, mode=mode)]))
        return path

    watched = Watched(tmp_path, archive("one.tar", b"a"))
    watched.init("--kind", "archive")
    assert checked_elsewhere(watched, archive("two.tar", b"b")).changed("--kind", "archive") == {
        "/etc/a.conf": ["sha256"]
    }
    third = archive("three.tar", b"a", 0o600)
    assert checked_elsewhere(watched, third).changed("--kind", "archive") == {
        "/etc/a.conf": ["mode"]
    }


LAYERS = [
    [
        folder("etc"), Entry("etc/kept", b"1"), Entry("etc/gone", b"2"), Entry("etc/over", b"3"),
        folder("opaque"), Entry("opaque/old", b"4"), folder("tree"), Entry("tree/below", b"5"),
        folder("usr"), folder("usr/lib"), link("lib", "usr/lib"), Entry("usr/lib/a", b"6"),
        Entry("usr/ping", b"7", mode=0o755,
              pax={"SCHILY.xattr.security.capability": "\1\0\0\2\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0"}),
    ],
    [
        Entry("etc/.wh.gone"), Entry("etc/over", b"new"), Entry("opaque/.wh..wh..opq"),
        Entry("opaque/new", b"8"), Entry("tree", b"now a file"), Entry("lib/b", b"9"),
        hard("etc/again", "etc/kept"), Entry("implied/folder/file", b"10"),
    ],
]  # fmt: skip


def test_layers_are_merged_as_the_image_format_says(tmp_path: Path) -> None:
    image = tmp_path / "image.tar"
    oci_archive(image, [layer(entries) for entries in LAYERS])
    watched = Watched(tmp_path, image)
    watched.init()
    merged = tmp_path / "merged"
    merged.mkdir()
    expected = {
        "etc/kept": "1", "etc/over": "new", "opaque/new": "8", "tree": "now a file",
        "usr/lib/a": "6", "usr/lib/b": "9", "etc/again": "1", "implied/folder/file": "10",
        "usr/ping": "7",
    }  # fmt: skip
    for name, body in expected.items():
        (merged / name).parent.mkdir(parents=True, exist_ok=True)
        (merged / name).write_text(body)
    (merged / "lib").symlink_to("usr/lib")
    (merged / "usr" / "ping").chmod(0o755)
    subprocess.run([program("setcap"), "cap_net_raw+ep", str(merged / "usr" / "ping")], check=True)
    report = checked_elsewhere(watched, merged).report()
    assert [report[word] for word in ("added", "removed", "changed")] == [[], [], []], report
    subprocess.run([program("setcap"), "-r", str(merged / "usr" / "ping")], check=True)
    (merged / "etc" / "gone").write_text("2")
    report = watched.report()
    assert paths(report["added"]) == ["/etc/gone"]
    (changed,) = report["changed"]
    assert changed["attributes"] == {"capabilities": ["cap_net_raw=ep", None]}


def test_a_running_container(rootfs: Path, tmp_path: Path) -> None:
    runc = program("runc")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    subprocess.run([runc, "spec", "--bundle", str(bundle)], check=True)
    document = json.loads((bundle / "config.json").read_text())
    document["process"]["terminal"] = False
    document["process"]["args"] = ["sleep", "300"]
    document["root"] = {"path": str(rootfs), "readonly": False}
    document["mounts"] = [m for m in document["mounts"] if m["type"] != "cgroup"]
    (bundle / "config.json").write_text(json.dumps(document))
    name = f"watch-{os.getpid()}"
    subprocess.run([runc, "run", "-d", "--bundle", str(bundle), name], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        watched = Watched(tmp_path, name)
        watched.init()
        assert watched.changed() == {}
        place = rootfs / "etc" / "watched.conf"
        subprocess.run([runc, "exec", name, "touch", "/etc/watched.conf"], check=True)
        try:
            report = watched.report()
        finally:
            place.unlink()
        assert paths(report["added"]) == ["/etc/watched.conf"]
        assert report["target"] == {"kind": "container", "name": name}
        mounted = {item["path"] for item in report["unseen"]}
        assert {"/proc", "/dev", "/sys"} <= mounted
    finally:
        subprocess.run([runc, "delete", "-f", name], check=True)


def test_a_broken_archive_is_an_error_and_no_change(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    data = layer([Entry("a", b"x" * 5000)])
    path.write_bytes(data)
    watched = Watched(tmp_path, path)
    watched.init("--kind", "archive")
    path.write_bytes(data[:3000])
    done = watched.check("--kind", "archive")
    assert (done.code, done.out) == (2, "")


def test_members_that_climb_out_are_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))
        archive.addfile(tarfile.TarInfo("inside"))
    path = tmp_path / "a.tar"
    path.write_bytes(buffer.getvalue())
    watched = Watched(tmp_path, path)
    assert "leads out of the root" in watched.init("--kind", "archive").err
    assert watched.changed("--kind", "archive") == {}
