"""Each attribute that changes alone is reported alone; each rule allows what it says, no more."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import program
from tests.watching import Watched, paths

pytestmark = pytest.mark.system


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A little of everything."""
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "file").write_text("content\n")
    (root / "log").write_text("first line\n")
    (root / "etc" / "a.conf").write_text("a=1\n")
    (root / "link").symlink_to("file")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    (root / b"new\nline".decode()).write_text("x")
    (root / os.fsdecode(b"bad\xff")).write_text("y")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(root / "socket"))
    return root


@pytest.fixture
def watched(tree: Path, tmp_path: Path) -> Watched:
    made = Watched(tmp_path, tree)
    made.init()
    return made


def rewritten(path: Path, content: str) -> None:
    """Other bytes of the same length, with the same mtime."""
    info = path.stat()
    path.write_text(content)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def replaced_device(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o20666, os.makedev(1, 300))
    path.chmod(0o644)


def relinked(path: Path) -> None:
    path.unlink()
    path.symlink_to("etc")


ALONE: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "content": (lambda root: rewritten(root / "file", "CONTENT\n"), "/file", ["sha256"]),
    "size": (lambda root: (root / "file").write_text("c"), "/file", ["sha256", "size"]),
    "mode": (lambda root: (root / "file").chmod(0o600), "/file", ["mode"]),
    "setuid": (lambda root: (root / "file").chmod(0o4644), "/file", ["mode"]),
    "owner": (lambda root: os.chown(root / "file", 7, -1), "/file", ["owner"]),
    "group": (lambda root: os.chown(root / "file", -1, 7), "/file", ["group"]),
    "folder": (lambda root: (root / "etc").chmod(0o700), "/etc", ["mode"]),
    "link": (lambda root: relinked(root / "link"), "/link", ["target"]),
    "device": (lambda root: replaced_device(root / "null"), "/null", ["device"]),
    "xattr": (lambda root: os.setxattr(root / "file", "user.a", b"1"), "/file", ["xattr user.a"]),
    "label": (
        lambda root: os.setxattr(root / "file", "security.SMACK64", b"_"),
        "/file", ["security.SMACK64"],
    ),
    "selinux": (
        lambda root: os.setxattr(root / "etc", "security.selinux", b"u:r:t:s0\0"),
        "/etc", ["security.selinux"],
    ),
    "fifo": (lambda root: (root / "fifo").chmod(0o600), "/fifo", ["mode"]),
    "socket": (lambda root: (root / "socket").chmod(0o600), "/socket", ["mode"]),
    "newline": (lambda root: (root / "new\nline").write_text("X"), "/new\nline", ["sha256"]),
    "invalid": (
        lambda root: (root / os.fsdecode(b"bad\xff")).write_text("Y"), "/bad\\xff", ["sha256"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ALONE)
def test_each_attribute_alone(watched: Watched, tree: Path, case: str) -> None:
    change, path, names = ALONE[case]
    assert watched.changed() == {}
    change(tree)
    assert watched.changed() == {path: names}
    assert watched.changed("--quick") == {path: names}


def test_capabilities_acls_and_links(watched: Watched, tree: Path, tmp_path: Path) -> None:
    subprocess.run([program("setcap"), "cap_net_raw+ep", str(tree / "file")], check=True)
    report = watched.report()
    assert report["changed"][0]["attributes"] == {"capabilities": [None, "cap_net_raw=ep"]}
    assert report["changed"][0]["severity"] == "critical"
    subprocess.run([program("setcap"), "-r", str(tree / "file")], check=True)
    subprocess.run([program("setfacl"), "-m", "u:7:r", str(tree / "file")], check=True)
    subprocess.run([program("setfacl"), "-d", "-m", "u:7:r", str(tree / "etc")], check=True)
    found = {item["path"]: item["attributes"] for item in watched.report()["changed"]}
    assert found["/file"]["acl"][1].startswith("user::rw-,user:7:r--,")
    assert found["/etc"] == {
        "default-acl": [None, "user::rwx,user:7:r--,group::r-x,mask::r-x,other::r-x"]
    }
    subprocess.run([program("setfacl"), "-b", str(tree / "file"), str(tree / "etc")], check=True)
    os.link(tree / "file", tmp_path / "elsewhere")
    assert watched.changed() == {"/file": ["links"]}
    (tmp_path / "elsewhere").unlink()
    assert watched.changed() == {}


def test_type_added_and_removed(watched: Watched, tree: Path) -> None:
    (tree / "file").unlink()
    (tree / "file").mkdir()
    (tree / "etc" / "a.conf").unlink()
    (tree / "etc" / "b.conf").write_text("b")
    report = watched.report()
    assert paths(report["added"]) == ["/etc/b.conf"]
    assert paths(report["removed"]) == ["/etc/a.conf"]
    (changed,) = report["changed"]
    assert changed["attributes"]["type"] == ["file", "directory"]
    assert report["verified"] is True
    assert report["added"][0]["severity"] == "medium"


@pytest.mark.parametrize("name", ["mtime", "ctime", "inode"])
def test_times_and_inode_only_when_chosen(watched: Watched, tree: Path, name: str) -> None:
    def touched() -> None:
        if name == "inode":
            (tree / "copy").write_bytes((tree / "file").read_bytes())
            (tree / "copy").rename(tree / "file")
        else:
            os.utime(tree / "file")

    touched()
    assert watched.changed() == {}
    watched.init("--with", name)
    assert watched.changed() == {}
    touched()
    assert watched.changed()["/file"] == [name]


def test_mtime_alone(tree: Path, tmp_path: Path) -> None:
    watched = Watched(tmp_path, tree)
    watched.init("--with", "mtime")
    os.utime(tree / "file", ns=(1, 5_000_000_001))
    assert watched.report()["changed"][0]["attributes"]["mtime"][1] == (
        "1970-01-01T00:00:05.000000001Z"
    )


def test_a_log_may_grow_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    watched = Watched(tmp_path, tree)
    watched.init("--rule", "/log=grows")
    with (tree / "log").open("a") as log:
        log.write("second line\n")
    assert watched.changed() == {}
    (tree / "log").write_text("FIRST line\nsecond line\n")
    assert watched.changed() == {"/log": ["sha256"]}
    (tree / "log").write_text("first")
    assert watched.changed() == {"/log": ["size"]}
    (tree / "log").write_text("first line\n")
    assert watched.changed() == {}
    (tree / "log").chmod(0o666)
    assert watched.changed() == {"/log": ["mode"]}
    (tree / "file").write_text("content\nmore\n")
    assert set(watched.changed()) == {"/file", "/log"}


def test_metadata_only(tree: Path, tmp_path: Path) -> None:
    watched = Watched(tmp_path, tree)
    watched.init("--rule", "/etc/**=metadata-only")
    (tree / "etc" / "a.conf").write_text("anything at all\n")
    assert watched.changed() == {}
    (tree / "etc" / "a.conf").chmod(0o600)
    assert watched.changed() == {"/etc/a.conf": ["mode"]}
    (tree / "etc" / "b.conf").write_text("")
    assert paths(watched.report()["added"]) == ["/etc/b.conf"]


def test_ignored(tree: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nglob = "/etc"\nmode = "ignored"\n')
    watched = Watched(tmp_path, tree)
    watched.init("--rules", rules, "--rule", "/file=ignored", "--rule", "/fifo=exact")
    (tree / "etc" / "b.conf").write_text("")
    (tree / "etc").chmod(0o700)
    (tree / "file").unlink()
    assert watched.report()["changed"] == []
    (tree / "fifo").unlink()
    assert paths(watched.report()["removed"]) == ["/fifo"]


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_digests_are_those_of_other_programs(tree: Path, tmp_path: Path, algorithm: str) -> None:
    big = os.urandom(3_000_001)
    (tree / "file").write_bytes(big)
    watched = Watched(tmp_path, tree)
    watched.init("--hash", algorithm)
    (tree / "file").write_text("other")
    found = watched.report()["changed"][0]["attributes"]
    before = found[algorithm][0]
    if algorithm == "sha256":
        done = subprocess.run(["sha256sum"], input=big, capture_output=True, check=True)
        assert done.stdout.split()[0].decode() == before
    else:
        from blake3 import blake3

        assert blake3(big).hexdigest() == before


def test_update_after_review(watched: Watched, tree: Path) -> None:
    (tree / "file").write_text("reviewed")
    report = watched.report("--update", "--key", watched.key)
    assert report["updated"] is True
    assert paths(report["changed"]) == ["/file"]
    assert watched.changed() == {}
    refused = watched.check("--update")
    assert refused.code == 2
    assert watched.check("--update", "--quick", "--key", watched.key).code == 2


def test_update_needs_the_key_of_the_baseline(watched: Watched, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Watched(tmp_path / "other", tree)
    before = watched.baseline.read_bytes()
    (tree / "file").write_text("unreviewed")
    assert watched.check("--update", "--key", other.key).code == 2
    assert watched.baseline.read_bytes() == before


def test_a_baseline_inside_its_own_target(tree: Path) -> None:
    inside = tree / "etc"
    watched = Watched(inside, tree)
    watched.init()
    assert watched.changed() == {}
    (tree / "file").write_text("new")
    report = watched.report("--update", "--key", watched.key)
    assert paths(report["changed"]) == ["/file"]
    assert watched.changed() == {}


def test_a_quick_check_is_told_apart_and_is_fooled_only_by_what_does_not_set_ctime(
    watched: Watched, tree: Path
) -> None:
    report = watched.report("--quick")
    assert report["mode"] == "quick"
    assert report["checked"]["taken_by_status"] == report["checked"]["entries"]
    assert "QUICK" in watched.check("--quick").out
    assert any("shared mapping" in note for note in report["notes"])
    assert not any("shared mapping" in note for note in watched.report()["notes"])
    assert watched.report()["mode"] == "full"
    rewritten(tree / "file", "CONTENT\n")
    assert watched.changed("--quick") == {"/file": ["sha256"]}


def test_several_paths_of_the_host(tree: Path, tmp_path: Path) -> None:
    watched = Watched(tmp_path, tree / "etc", tree / "file")
    watched.init()
    (tree / "log").write_text("not looked at")
    assert watched.changed() == {}
    (tree / "file").write_text("looked at")
    (tree / "etc" / "c").write_text("looked at")
    report = watched.report()
    assert paths(report["changed"]) == [str(tree / "file")]
    assert paths(report["added"]) == [str(tree / "etc" / "c")]
    (tree / "file").unlink()
    assert paths(watched.report()["removed"]) == [str(tree / "file")]
    other = Watched(tmp_path, tree / "etc", tree / "log")
    assert other.check().code == 2
