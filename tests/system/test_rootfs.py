"""A real Debian root file system as archive, folder and image; find and dpkg are the oracles."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
import pytest

from ringfence.collect.files.directory import read_directory
from ringfence.collect.files.image import read_image, read_tar
from ringfence.model.files import Tree
from tests.command import ringfence
from tests.images import oci_archive

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def from_tar(rootfs_tar: Path) -> Tree:
    return read_tar(rootfs_tar)


def test_the_archive_and_the_folder_are_the_same_tree(from_tar: Tree, rootfs: Path) -> None:
    folder = read_directory(rootfs)
    assert from_tar.elf == folder.elf
    assert from_tar.programs.keys() == folder.programs.keys()
    for kind, paths in from_tar.programs.items():
        assert sorted(paths) == sorted(folder.programs[kind])
    assert {file.path for file in from_tar.privileged} == {file.path for file in folder.privileged}
    assert set(from_tar.packages) == set(folder.packages)
    assert from_tar.counts == folder.counts


def test_counts_against_find_and_dpkg(from_tar: Tree, rootfs: Path) -> None:
    def find(*words: str) -> int:
        done = subprocess.run(["find", ".", *words], cwd=rootfs, capture_output=True, check=True)
        return len(done.stdout.splitlines())

    assert from_tar.counts.files == find("!", "-type", "d")
    assert from_tar.counts.setuid == find("-type", "f", "-perm", "/6000", "-perm", "/111")
    status = (rootfs / "var/lib/dpkg/status").read_text()
    assert from_tar.counts.packages == status.count("Status: install ok installed")


def test_every_elf_file_is_sound(from_tar: Tree) -> None:
    assert (from_tar.counts.elf or 0) > 500
    assert [path for path, elf in from_tar.elf.items() if elf.problem] == []


def test_the_image_of_it_is_the_same_tree(from_tar: Tree, rootfs_tar: Path, tmp_path: Path) -> None:
    image = oci_archive(tmp_path / "image.tar", [rootfs_tar.read_bytes()])
    assert read_image(image).tree.counts == from_tar.counts
    done = ringfence("measure", image, "--format", "json")
    document = json.loads(done.out)
    assert document["counts"]["files"]["value"] == from_tar.counts.files
    assert document["plan"]


def test_it_survives_the_way_through_json(from_tar: Tree) -> None:
    again = msgspec.json.decode(msgspec.json.encode(from_tar), type=Tree)
    assert again == from_tar
