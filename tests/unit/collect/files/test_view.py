"""Files in view of a live workload: every mount that setuid programs may be run from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ringfence.collect.files import view
from ringfence.collect.files.directory import read_directory
from ringfence.collect.files.view import tree_in_view, tree_of_host
from ringfence.model.evidence import Unseen
from ringfence.model.files import Tree
from ringfence.model.process import Mount

ROOT = Mount("/", "/", "overlay", "overlay", frozenset({"rw"}), "0:50")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("usr/bin", "data/deep", "mnt/data"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("usr/bin/su", "data/deep/own"):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / name).chmod(0o4755)
    return tmp_path


def at(path: str, options: str, fstype: str = "tmpfs", device: str = "0:51") -> Mount:
    return Mount(path, "/", fstype, "source", frozenset(options.split(",")), device)


@pytest.mark.parametrize(
    ("mount", "entered"),
    [
        (at("/data", "rw"), ["/data"]),
        (at("/data", "rw,nosuid"), []),
        (at("/data", "rw,noexec"), []),
        (at("/data", "rw", "proc"), []),
        (at("/data", "rw", device="0:50"), ["/data"]),
        (Mount("/data", "/", "tmpfs", "t", frozenset({"rw"}), "0:51", hidden=True), []),
    ],
)
def test_mounts_that_setuid_programs_may_be_run_from_are_read(
    monkeypatch: pytest.MonkeyPatch, root: Path, mount: Mount, entered: list[str]
) -> None:
    asked: list[list[str]] = []

    def read(place: Path, *, mounts: list[str], **_rest: object) -> Tree:
        asked.append(mounts)
        return read_directory(place, mounts=mounts)

    monkeypatch.setattr(view, "read_directory", read)
    tree = tree_in_view(root, (ROOT, mount))
    assert asked == [entered]
    assert tree.complete


def others(tree: Tree) -> list[Unseen]:
    """What was not seen, but that no ELF file was looked into."""
    return [note for note in tree.unseen if note.why != view.WITHOUT_ELF]


def test_that_no_elf_file_is_looked_into_is_told(root: Path) -> None:
    for tree in (tree_in_view(root, (ROOT,)), tree_in_view(root, None)):
        assert tree.counts.elf is None
        told = [note.what for note in tree.unseen if note.why == view.WITHOUT_ELF]
        assert told == [f"protections of the ELF files below {root}"]
    whole = read_directory(root)
    assert (whole.counts.elf, whole.unseen) == (0, ())


def test_mounts_that_may_not_answer_are_told(root: Path) -> None:
    tree = tree_in_view(root, (ROOT, at("/mnt/data", "rw", "nfs4")))
    assert not tree.complete
    assert [note.what for note in others(tree)] == [
        "files on 1 other mount(s), the first '/mnt/data'"
    ]
    assert tree_in_view(root, (ROOT, at("/mnt/data", "rw,nosuid", "nfs4"))).complete


def test_where_mounts_were_not_read_nothing_is_whole(root: Path) -> None:
    tree = tree_in_view(root, None)
    assert not tree.complete
    assert [note.why for note in others(tree)] == ["the mounts could not be read"]


def test_of_a_host_other_mounts_are_told(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(view, "read_directory", lambda _place, **_rest: read_directory(root))
    assert tree_of_host((ROOT, at("/run", "rw,nosuid"), at("/c", "rw", "overlay"))).complete
    tree = tree_of_host((ROOT, at("/home", "rw", "ext4")))
    assert not tree.complete
    assert [note.what for note in others(tree)] == ["files on 1 other mount(s), the first '/home'"]


def test_what_is_on_the_same_file_system_is_read_once(root: Path) -> None:
    tree = read_directory(root, mounts=["/data", "/data/deep"])
    assert sorted(file.path for file in tree.privileged) == ["data/deep/own", "usr/bin/su"]


MOUNTED = """
import os, subprocess, sys
from pathlib import Path
from ringfence.collect.files.directory import read_directory
root = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "none", f"{root}/mnt/data"], check=True)
os.mkdir(f"{root}/mnt/data/a")
Path(f"{root}/mnt/data/a/own").touch(0o755)
os.chmod(f"{root}/mnt/data/a/own", 0o4755)
for mounts in ([], ["/mnt/data"]):
    found = read_directory(Path(root), mounts=mounts).privileged
    print(sorted(file.path for file in found))
"""


def test_another_file_system_is_entered_where_it_is_mounted(root: Path) -> None:
    within = ["unshare", "--user", "--map-root-user", "--mount"]
    ran = subprocess.run([*within, "true"], capture_output=True, timeout=20, check=False)
    if ran.returncode:
        pytest.skip("no user namespaces here")
    ran = subprocess.run([*within, sys.executable, "-c", MOUNTED, str(root)],
                         capture_output=True, timeout=20, check=True)  # fmt: skip
    assert ran.stdout.decode().splitlines() == [
        "['data/deep/own', 'usr/bin/su']",
        "['data/deep/own', 'mnt/data/a/own', 'usr/bin/su']",
    ]
