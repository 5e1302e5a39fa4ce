"""Images: OCI layouts and archives, docker save; every blob checked, nothing unpacked."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ringfence.collect.files.image import read_image, sniff
from ringfence.errors import InputError
from tests.images import (
    Entry,
    docker_archive,
    layer,
    oci_archive,
    oci_files,
    write_archive,
    write_folder,
)

BASE = layer([Entry("etc/os-release", b"ID=debian\n"), Entry("bin/sh", b"sh", mode=0o755)])
TOP = layer([Entry("bin/.wh.sh"), Entry("srv/app", b"app", mode=0o755)])
CONFIG = {
    "User": "10001",
    "Entrypoint": ["/srv/app"],
    "Cmd": ["--serve"],
    "ExposedPorts": {"8080/tcp": {}},
    "Env": ["TOKEN=do-not-show"],
}


def blobs(files: dict[str, bytes]) -> list[str]:
    return [name for name in files if name.startswith("blobs/")]


def row(data: bytes, kind: str, **more: Any) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data), **more}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_an_oci_archive_and_its_configuration(tmp_path: Path, pack: Any) -> None:
    found = read_image(oci_archive(tmp_path / "i.tar", [pack(BASE), pack(TOP)], CONFIG))
    assert found.tree.counts.files == 2
    assert found.tree.counts.shells == 0
    assert found.config.user == "10001"
    assert found.config.program == "/srv/app"
    assert found.config.ports == ("8080/tcp",)
    assert found.config.layers == 2


def test_all_forms_give_the_same_tree(tmp_path: Path) -> None:
    archive = oci_archive(tmp_path / "a.tar", [BASE, TOP], CONFIG)
    unpacked = write_folder(tmp_path / "layout", oci_files([BASE, TOP], CONFIG))
    docker = docker_archive(tmp_path / "d.tar", [BASE, TOP], CONFIG)
    squeezed = tmp_path / "a.tar.gz"
    squeezed.write_bytes(gzip.compress(archive.read_bytes()))
    trees = [read_image(path).tree for path in (archive, unpacked, docker, squeezed)]
    assert {tree.counts for tree in trees} == {trees[0].counts}
    assert [sniff(path) for path in (archive, unpacked, docker, squeezed)] == ["image"] * 4


def test_nothing_is_written_anywhere(tmp_path: Path) -> None:
    archive = oci_archive(tmp_path / "a.tar", [BASE, TOP])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    read_image(archive)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_environment_values_are_not_kept(tmp_path: Path) -> None:
    found = read_image(oci_archive(tmp_path / "a.tar", [BASE], CONFIG))
    assert "do-not-show" not in repr(found)


def test_of_a_command_only_the_program_is_kept(tmp_path: Path) -> None:
    for said, program in (
        ({"Cmd": ["/bin/app", "--token=do-not-show"]}, "/bin/app"),
        ({"Entrypoint": ["run"], "Cmd": ["do-not-show"]}, "run"),
        ({}, ""),
    ):
        found = read_image(oci_archive(tmp_path / "a.tar", [BASE], said))
        assert found.config.program == program
        assert "do-not-show" not in repr(found)


def test_ports_that_make_no_sense_are_left_out_and_said(tmp_path: Path) -> None:
    odd: dict[str, Any] = {
        "ExposedPorts": {"80/tcp": {}, "0": {}, "99999/tcp": {}, "http": {}, "53/udp": {}}
    }
    found = read_image(oci_archive(tmp_path / "a.tar", [BASE], odd))
    assert found.config.ports == ("53/udp", "80/tcp")
    assert "http" in found.unseen[0].what


def test_a_changed_blob_is_refused(tmp_path: Path) -> None:
    files = oci_files([BASE, TOP])
    for name in blobs(files):
        changed = {**files, name: files[name] + b" "}
        with pytest.raises(InputError, match="does not have its digest"):
            read_image(write_archive(tmp_path / "x.tar", changed))


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    files = oci_files([BASE])
    for name in blobs(files):
        rest = {key: data for key, data in files.items() if key != name}
        with pytest.raises(InputError, match=f"{name} is missing"):
            read_image(write_archive(tmp_path / "x.tar", rest))


def test_the_image_of_the_wanted_platform_is_chosen(tmp_path: Path) -> None:
    both = {**oci_files([BASE], platform="amd64"), **oci_files([TOP], platform="arm64")}
    rows = [json.loads(oci_files([item], platform=name)["index.json"])["manifests"][0]
            for item, name in ((BASE, "amd64"), (TOP, "arm64"))]  # fmt: skip
    attestation = row(b"{}", "application/vnd.oci.image.manifest.v1+json",
                      platform={"architecture": "unknown", "os": "unknown"})  # fmt: skip
    both["index.json"] = json.dumps({"manifests": [attestation, *rows]}).encode()
    path = write_archive(tmp_path / "x.tar", both)
    assert read_image(path, "amd64").tree.counts.shells == 1
    assert read_image(path, "arm64").tree.counts.shells == 0
    with pytest.raises(InputError, match="no image for s390x, only for amd64, arm64"):
        read_image(path, "s390x")


def test_an_index_in_an_index_is_followed_and_a_deep_nest_refused(tmp_path: Path) -> None:
    files = oci_files([BASE])
    document = files["index.json"]
    for depth in range(8):
        digest = hashlib.sha256(document).hexdigest()
        files[f"blobs/sha256/{digest}"] = document
        nested = row(document, "application/vnd.oci.image.index.v1+json")
        document = json.dumps({"manifests": [nested]}).encode()
        path = write_archive(tmp_path / "x.tar", {**files, "index.json": document})
        if depth == 0:
            assert read_image(path, "amd64").tree.counts.files == 2
    with pytest.raises(InputError, match="nested too deep"):
        read_image(path, "amd64")


@pytest.mark.parametrize(
    ("index", "said"),
    [(b"{", "is no JSON"), (b'{"manifests": []}', "lists no image"), (b"[]", "lists no image"),
     (b"[" * 100_000, "is no JSON"), (b" " * (5 << 20), "larger than 4 MiB"),
     (b'{"manifests": [{"digest": "sha256:../../etc/passwd"}]}', "is none of sha256"),
     (b'{"manifests": [{"digest": 7}]}', "is none of sha256")],
)  # fmt: skip
def test_an_index_that_makes_no_sense(tmp_path: Path, index: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_image(write_archive(tmp_path / "x.tar", {**oci_files([BASE]), "index.json": index}))


def test_the_image_of_another_system_is_passed_over(tmp_path: Path) -> None:
    files = oci_files([BASE], CONFIG)
    here = json.loads(files["index.json"])["manifests"][0]
    windows = {**row(b"{}", here["mediaType"]), "platform": {"os": "windows"}}
    linux = {**here, "platform": {"os": "linux"}}
    files["index.json"] = json.dumps({"manifests": [windows, linux]}).encode()
    assert read_image(write_archive(tmp_path / "i.tar", files)).config.user == "10001"
    files["index.json"] = json.dumps({"manifests": [windows]}).encode()
    with pytest.raises(InputError, match="only for windows"):
        read_image(write_archive(tmp_path / "j.tar", files))


@pytest.mark.parametrize(("user", "uid"), [("admin", 0), ("web", 7), ("00", 0), ("nobody", None)])
def test_a_user_is_who_the_accounts_of_the_image_say(
    tmp_path: Path, user: str, uid: int | None
) -> None:
    accounts = layer([Entry("etc/passwd", b"admin:x:0:0\nweb:x:7:7\n")])
    found = read_image(oci_archive(tmp_path / "i.tar", [BASE, accounts], {"User": user}))
    assert (found.config.user, found.config.uid) == (user, uid)


def test_accounts_are_those_of_the_uppermost_layer(tmp_path: Path) -> None:
    stack = [layer([Entry("etc/passwd", b"web:x:%d:7\n" % uid)]) for uid in (7, 0)]
    assert read_image(oci_archive(tmp_path / "i.tar", stack, {"User": "web"})).config.uid == 0
    gone = layer([Entry("etc/.wh.passwd")])
    stack = [stack[0], gone]
    assert read_image(oci_archive(tmp_path / "j.tar", stack, {"User": "web"})).config.uid is None


@pytest.mark.parametrize("name", ["manifest.json", "index.json"])
def test_an_archive_with_a_document_twice_is_refused(tmp_path: Path, name: str) -> None:
    """Engines take the first of them, we would take the last."""
    make = docker_archive if name == "manifest.json" else oci_archive
    path = make(tmp_path / "i.tar", [BASE], CONFIG)
    with tarfile.open(path) as archive:
        member = archive.extractfile(name)
        assert member is not None
        body = member.read()
    with tarfile.open(path, "a") as archive:
        archive.addfile(Entry(name, body).info, io.BytesIO(body))
    with pytest.raises(InputError, match=f"has {name} twice"):
        read_image(path)


def test_a_configuration_that_engines_read_otherwise_is_refused(tmp_path: Path) -> None:
    twice = {**CONFIG, "user": "root"}
    with pytest.raises(InputError, match="'user' stands twice"):
        read_image(oci_archive(tmp_path / "i.tar", [BASE], twice))
    labels = {**CONFIG, "Labels": {"a": "1", "A": "2"}}
    assert read_image(oci_archive(tmp_path / "j.tar", [BASE], labels)).config.user == "10001"


def test_links_in_a_layout_folder_are_not_followed(tmp_path: Path) -> None:
    files = oci_files([BASE])
    place = write_folder(tmp_path / "layout", files)
    for name in blobs(files):
        data = (place / name).read_bytes()
        (tmp_path / "outside").write_bytes(data)
        (place / name).unlink()
        (place / name).symlink_to(tmp_path / "outside")
        with pytest.raises(InputError, match="is missing"):
            read_image(place)
        (place / name).unlink()
        (place / name).write_bytes(data)


def with_layers(change: Any) -> dict[str, bytes]:
    """An OCI layout whose manifest has `change` of its layers."""
    files = oci_files([BASE, TOP], CONFIG)
    index = json.loads(files["index.json"])
    manifest = json.loads(files["blobs/sha256/" + index["manifests"][0]["digest"][7:]])
    manifest["layers"] = change(manifest["layers"])
    data = json.dumps(manifest).encode()
    index["manifests"] = [row(data, "application/vnd.oci.image.manifest.v1+json")]
    files[f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"] = data
    return {**files, "index.json": json.dumps(index).encode()}


@pytest.mark.parametrize("layers", [None, "abc", {}, 5, ["abc"], [{}], [{"digest": 5}], [None]])
def test_layers_that_make_no_sense_are_refused(tmp_path: Path, layers: Any) -> None:
    path = write_archive(tmp_path / "x.tar", with_layers(lambda _: layers))
    with pytest.raises(InputError, match="no list that names each of them"):
        read_image(path)


def test_an_image_of_too_many_layers_is_not_measured_in_part(tmp_path: Path) -> None:
    most = write_archive(tmp_path / "x.tar", with_layers(lambda rows: rows[:1] * 1024))
    assert read_image(most).config.layers == 1024
    more = write_archive(tmp_path / "y.tar", with_layers(lambda rows: rows[:1] * 1025))
    with pytest.raises(InputError, match="has 1025 layers, the most is 1024"):
        read_image(more)


def test_a_layer_that_is_listed_again_is_laid_again(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "x.tar", with_layers(lambda rows: [*rows, rows[0]]))
    assert read_image(path).tree.counts.files == 3


@pytest.mark.parametrize("row", [{}, {"Layers": "l.tar"}, {"Layers": [5]}, {"Layers": {}}])
def test_a_docker_archive_whose_layers_make_no_sense(tmp_path: Path, row: dict[str, Any]) -> None:
    listing = json.dumps([{"Config": "c.json", **row}]).encode()
    files = {"manifest.json": listing, "c.json": b"{}", "l.tar": BASE}
    with pytest.raises(InputError, match="no list that names each of them"):
        read_image(write_archive(tmp_path / "x.tar", files))


@pytest.mark.parametrize("layers", [[], None])
def test_a_docker_archive_of_nothing(tmp_path: Path, layers: Any) -> None:
    listing = json.dumps([{"Config": "c.json", "Layers": layers}]).encode()
    path = write_archive(tmp_path / "x.tar", {"manifest.json": listing, "c.json": b"{}"})
    assert read_image(path).tree.counts.files == 0


@pytest.mark.parametrize("name", ["l/host.tar", "a" * 300, "a/b\0c"])
def test_a_docker_folder_does_not_lead_out_of_itself(tmp_path: Path, name: str) -> None:
    listing = json.dumps([{"Config": "c.json", "Layers": [name]}]).encode()
    place = write_folder(tmp_path / "image", {"manifest.json": listing, "c.json": b"{}"})
    write_folder(tmp_path / "secret", {"host.tar": BASE})
    (place / "l").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="is missing"):
        read_image(place)


def test_a_docker_archive_with_two_images_is_refused(tmp_path: Path) -> None:
    listing = json.dumps([{"Config": "a.json", "Layers": []}] * 2).encode()
    with pytest.raises(InputError, match="holds 2 images"):
        read_image(write_archive(tmp_path / "x.tar", {"manifest.json": listing}))


def test_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither index\.json nor"):
        read_image(write_archive(tmp_path / "x.tar", {"hello": b"x"}))
    with pytest.raises(InputError, match="cut short"):
        path = oci_archive(tmp_path / "y.tar", [BASE, TOP])
        path.write_bytes(path.read_bytes()[:4000])
        read_image(path)
