"""Results of harden that somebody else has made: what `ringfence run` takes from them as root."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ringfence.collect.seccomp.tables import native_calls
from ringfence.errors import InputError
from ringfence.run.fence import ID_BASE
from ringfence.run.result import Options, Ready, ready
from tests.system.conftest import program
from tests.system.hardening import RINGFENCE

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


def layer(owner: int = 0, mode: int = 0o755, body: bytes = b"x", name: str = "x") -> bytes:
    """One with a program, /x."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo(name)
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


@pytest.fixture
def shell(result: Path) -> Iterator[Path]:
    """A result whose service is a shell's command: it writes below two folders that its image
    does not have, and works in a third."""
    said = "pwd; echo it > /data/f && echo /data/* /deep/*"
    content = layer(body=Path(program("busybox")).read_bytes(), name="busybox")
    command = ["/busybox", "sh", "-c", said]
    places = {"Volumes": {"/data": {}, "/deep/er/": {}}, "WorkingDir": "/work/place"}
    (result / "image.oci.tar").write_bytes(image(content, Cmd=command, **places))
    names = sorted(native_calls().keys() - {"reboot"})
    allowed = [{"names": names, "action": "SCMP_ACT_ALLOW"}]
    (result / "policy/seccomp.json").write_text(json.dumps({**FILTER, "syscalls": allowed}))
    yield result
    shutil.rmtree(ready(result, Options()).fence.root.parent)


def ran(result: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A finished `ringfence run`."""
    return subprocess.run(
        [str(RINGFENCE), "run", str(result), *words], capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip


def state(root: Path) -> dict[str, tuple[int, int, int, int]]:
    """All below a folder: mode, owner, group and the time of the last change."""
    rows = {str(path.relative_to(root)): path.lstat() for path in (root, *root.rglob("*"))}
    return {name: (row.st_mode, row.st_uid, row.st_gid, row.st_ctime_ns)
            for name, row in rows.items()}  # fmt: skip


@pytest.mark.parametrize("engine", ["runc", "podman"])
def test_an_engine_writes_nothing_into_the_image(shell: Path, tmp_path: Path, engine: str) -> None:
    program(engine)
    outside = tmp_path / "outside"
    outside.mkdir()
    os.chown(outside, ID_BASE + 1000, ID_BASE + 1000)
    root = ready(shell, Options()).fence.root
    before = state(root)
    assert {"data", "deep/er", "work/place", "dev", "proc", "sys"} <= before.keys()

    words = ("--engine", engine)
    for volume in ((), ("-v", f"{outside}:/data"), ("-v", f"{outside}:/deep/../data/:rw")):
        done = ran(shell, *words, *volume)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["/work/place", "/data/f", "/deep/er"]
        assert (outside / "f").is_file() is bool(volume)
        (outside / "f").unlink(missing_ok=True)
    done = ran(shell, *words, "-v", f"{outside}:/data:ro")
    assert "Read-only file system" in done.stdout + done.stderr
    assert list(outside.iterdir()) == []
    for place in ("/nope/sub", "/deep", "/work/place", "/data/below", "/data:/data"):
        done = ran(shell, *words, "-v", f"{outside}:{place}")
        assert done.returncode == 2 and place in done.stderr
    assert state(root) == before


def test_what_is_unpacked_lacks_no_mount_point_when_a_container_starts(shell: Path) -> None:
    root = ready(shell, Options()).fence.root
    (root / "data").rmdir()
    with pytest.raises(InputError, match=r"its mount point /data is no folder.*; remove .*roots/"):
        ready(shell, Options())
    (root / "data").mkdir()
    (root / "dev").rmdir()
    (root / "dev").symlink_to("data")
    with pytest.raises(InputError, match="its mount point /dev is no folder"):
        ready(shell, Options())
    (root / "dev").unlink()
    (root / "dev").mkdir()
    assert ready(shell, Options()).fence.root == root


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"Volumes": {"/x": {}}}, "its mount point /x is no folder"),
        ({"Volumes": {"/x/y": {}}}, "its mount point /x/y is no folder"),
        ({"WorkingDir": "/x"}, "its mount point /x is no folder"),
        ({"WorkingDir": "/../a"}, "its folder '/../a' is none inside"),
        ({"Volumes": {"/a/../../b": {}}}, "its folder '/a/../../b' is none inside"),
        ({"Volumes": {"/.": {}}}, "its whole root is to be writable"),
    ],
)
def test_places_that_cannot_be_mounted_on(result: Path, changed: dict[str, Any], said: str) -> None:
    (result / "image.oci.tar").write_bytes(image(layer(), **changed))
    with pytest.raises(InputError) as refused:
        taken(result)
    assert said in refused.value.line()
    store = result.parent / "store"
    assert not store.exists() or list(store.iterdir()) == []


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
