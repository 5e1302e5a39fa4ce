"""Container images for tests, written with the standard library: OCI archives, docker save."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Entry:
    """One file of a layer. `kind` is tarfile's type; `pax` are extra pax records."""

    def __init__(
        self,
        name: str,
        body: bytes = b"",
        *,
        mode: int = 0o644,
        kind: bytes = tarfile.REGTYPE,
        target: str = "",
        uid: int = 0,
        pax: dict[str, str] | None = None,
    ) -> None:
        self.info = tarfile.TarInfo(name)
        self.info.type = kind
        self.info.mode = mode
        self.info.size = len(body)
        self.info.linkname = target
        self.info.uid = self.info.gid = uid
        self.info.pax_headers = pax or {}
        self.body = body


def folder(name: str, mode: int = 0o755) -> Entry:
    """A directory."""
    return Entry(name, kind=tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str) -> Entry:
    """A symlink."""
    return Entry(name, kind=tarfile.SYMTYPE, target=target, mode=0o777)


def hard(name: str, target: str) -> Entry:
    """A hard link."""
    return Entry(name, kind=tarfile.LNKTYPE, target=target)


def layer(entries: Iterable[Entry], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive of `entries`, names exactly as given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for entry in entries:
            archive.addfile(entry.info, io.BytesIO(entry.body))
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _described(data: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{_digest(data)}", "size": len(data)}


def configuration(config: dict[str, Any] | None, layers: list[bytes]) -> bytes:
    """An image configuration; its diff ids are those of the layers as they are given."""
    plain = [gzip.decompress(item) if item[:2] == b"\x1f\x8b" else item for item in layers]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(item)}" for item in plain]},
    }
    return json.dumps(document).encode()


def oci_files(
    layers: list[bytes], config: dict[str, Any] | None = None, platform: str = "amd64"
) -> dict[str, bytes]:
    """The files of an OCI layout with one image, by path."""
    said = configuration(config, layers)
    kind = "application/vnd.oci.image.layer.v1.tar"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _described(said, "application/vnd.oci.image.config.v1+json"),
            "layers": [_described(item, kind + _suffix(item)) for item in layers],
        }
    ).encode()
    row = _described(manifest, "application/vnd.oci.image.manifest.v1+json")
    row["platform"] = {"architecture": platform, "os": "linux"}
    index = json.dumps({"schemaVersion": 2, "manifests": [row]}).encode()
    blobs = {f"blobs/sha256/{_digest(data)}": data for data in (said, manifest, *layers)}
    return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index, **blobs}


def _suffix(data: bytes) -> str:
    if data[:2] == b"\x1f\x8b":
        return "+gzip"
    return "+zstd" if data[:4] == b"\x28\xb5\x2f\xfd" else ""


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    """A tar archive of `files` at `path`, their folders first, as skopeo and podman write it."""
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    with tarfile.open(path, "w") as archive:
        for name in sorted(folders):
            archive.addfile(folder(name).info)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    """`files` below the folder `path`."""
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def oci_archive(path: Path, layers: list[bytes], config: dict[str, Any] | None = None) -> Path:
    """An OCI image archive at `path`."""
    return write_archive(path, oci_files(layers, config))


def docker_archive(path: Path, layers: list[bytes], config: dict[str, Any] | None = None) -> Path:
    """What `docker save` wrote before it turned to OCI layouts, at `path`."""
    said = configuration(config, layers)
    names = [f"{_digest(item)}/layer.tar" for item in layers]
    listing = [{"Config": f"{_digest(said)}.json", "RepoTags": ["web:1"], "Layers": names}]
    files = dict(zip(names, layers, strict=True))
    files[f"{_digest(said)}.json"] = said
    files["manifest.json"] = json.dumps(listing).encode()
    return write_archive(path, files)
