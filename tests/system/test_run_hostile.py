"""Results of harden that somebody else has made: what `ringfence run` takes from them as root."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import InputError
from ringfence.run.fence import ID_BASE
from ringfence.run.result import Options, Ready, ready
from tests.system.conftest import program

pytestmark = pytest.mark.system

CONFIG: dict[str, Any] = {"User": "1000:1000", "Cmd": ["/x"], "StopSignal": "SIGTERM"}
FILTER = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}


def archive(files: dict[str, bytes]) -> bytes:
    """A tar archive of plain files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def layer(owner: int = 0, mode: int = 0o755, body: bytes = b"x") -> bytes:
    """One with a program /x."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("x")
        member.size, member.mode, member.uid, member.gid = len(body), mode, owner, owner
        tar.addfile(member, io.BytesIO(body))
    return out.getvalue()


def image(content: bytes, **changed: Any) -> bytes:
    """An OCI archive with one layer."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    config = blob(json.dumps({"config": {**CONFIG, **changed}}).encode())
    manifest = blob(json.dumps({"config": config, "layers": [blob(content)]}).encode())
    index = json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode()
    return archive({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **blobs})


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result that is taken."""
    program("nft")
    folder = tmp_path / "result"
    (folder / "policy").mkdir(parents=True)
    (folder / "image.oci.tar").write_bytes(image(layer()))
    (folder / "policy/seccomp.json").write_text(json.dumps(FILTER))
    (folder / "policy/nftables.nft").write_text("table inet ringfence {\n}\n")
    return folder


def taken(result: Path) -> Ready:
    return ready(result, Options(), result.parent / "store")


def test_what_is_unpacked_is_out_of_everybody_else_s_reach(result: Path) -> None:
    (result / "image.oci.tar").write_bytes(image(layer(mode=0o4755)))
    root = taken(result).fence.root
    program_there = (root / "x").stat()
    assert (program_there.st_uid, stat.S_IMODE(program_there.st_mode)) == (ID_BASE, 0o4755)
    for _ in range(2):
        place = root.parent.stat()
        assert (place.st_uid, stat.S_IMODE(place.st_mode)) == (ID_BASE, 0o700)
        root.parent.chmod(0o711)  # as an earlier version left it
        taken(result)


def test_an_owner_that_would_be_root_s_in_the_end_is_refused(result: Path) -> None:
    (result / "image.oci.tar").write_bytes(image(layer(0xFFFFFFFF - ID_BASE, 0o4755)))
    with pytest.raises(InputError, match=r"its owner .* is none that a file can have"):
        taken(result)
    assert list((result.parent / "store").iterdir()) == []


def test_what_a_killed_run_left_in_the_store_goes_with_a_later_one(result: Path) -> None:
    left, busy = (result.parent / "store" / name for name in (".new.left", ".new.busy"))
    for folder in (left, busy):
        (folder / "root").mkdir(parents=True)
    os.utime(left, (0, 0))
    taken(result)
    assert not left.exists() and busy.exists()


def test_an_image_whose_layers_nobody_vouches_for_is_refused(result: Path) -> None:
    genuine = taken(result)
    config = json.dumps({"config": CONFIG}).encode()
    name = f"{genuine.digest.removeprefix('sha256:')}.json"
    manifest = json.dumps([{"Config": name, "Layers": ["l.tar"]}]).encode()
    (result / "image.oci.tar").write_bytes(
        archive({"manifest.json": manifest, name: config, "l.tar": layer(body=b"evil")})
    )
    with pytest.raises(InputError, match="is no OCI archive"):
        taken(result)
    assert (genuine.fence.root / "x").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["nftables.nft", "seccomp.json"])
@pytest.mark.parametrize("kind", ["link", "folder link", "fifo", "endless"])
def test_policies_are_plain_files_of_the_result(result: Path, name: str, kind: str) -> None:
    path = result / "policy" / name
    path.unlink()
    if kind == "link":
        path.symlink_to("/etc/shadow")
    elif kind == "folder link":
        outside = result.parent / "outside"
        (result / "policy").rename(outside)
        (outside / name).write_text(json.dumps(FILTER))
        (result / "policy").symlink_to(outside)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(InputError) as refused:
        taken(result)
    assert "/policy/" in refused.value.line()


@pytest.mark.parametrize(
    "changed",
    [
        {"User": "00:0"}, {"User": "0:0"}, {"User": "²:33"}, {"User": "99999999999:33"},
        {"User": "33"}, {"User": "70000:1"}, {"ExposedPorts": {"abc/tcp": {}}},
        {"ExposedPorts": {"99999/tcp": {}}}, {"ExposedPorts": {"0/tcp": {}}},
        {"ExposedPorts": {"53/udp": {}}}, {"WorkingDir": "/a\0b"}, {"Env": ["A=\0"]},
        {"Cmd": ["/x", "\0"]}, {"StopSignal": "SIGNONE"}, {"StopSignal": "99"},
        {"StopSignal": "0"}, {"StopSignal": "SIGTERM+3"}, {"StopSignal": "²"},
    ],
)  # fmt: skip
def test_odd_configurations_are_refused_before_anything_starts(
    result: Path, changed: dict[str, Any]
) -> None:
    (result / "image.oci.tar").write_bytes(image(layer(), **changed))
    with pytest.raises(InputError):
        taken(result)


@pytest.mark.parametrize(
    ("text", "number"), [("SIGTERM", 15), ("TERM", 15), ("15", 15), ("SIGRTMIN+3", 37)]
)
def test_a_stop_signal_in_each_form_of_oci(result: Path, text: str, number: int) -> None:
    (result / "image.oci.tar").write_bytes(image(layer(), StopSignal=text))
    assert taken(result).signal == number


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"defaultAction":"X","syscalls":[{}]}', '{"defaultAction":1,"syscalls":[]}',
     '{"defaultAction":"X","syscalls":[3]}', "[" * 100_000,
     '{"defaultAction":"X","syscalls":[{"names":["a"],"action":"Y","args":[{"index":"z"}]}]}'],
)  # fmt: skip
def test_what_is_no_filter_is_refused(result: Path, text: str) -> None:
    (result / "policy/seccomp.json").write_text(text)
    with pytest.raises(InputError, match="is no system call filter"):
        taken(result)
