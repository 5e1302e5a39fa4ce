"""An OCI image layout in a tar archive, which `docker load` reads as well.

Specification: https://github.com/opencontainers/image-spec (image-layout, manifest, config);
manifest.json is what `docker save` writes beside it.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import tarfile
from typing import Any, BinaryIO

import msgspec

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


class ImageConfiguration(msgspec.Struct, frozen=True):
    """What the image says of how it runs. `user` is numeric, `ports` like `80/tcp`."""

    command: tuple[str, ...]
    environment: tuple[str, ...]
    folder: str
    user: str
    ports: tuple[str, ...]
    volumes: tuple[str, ...]
    signal: str
    labels: dict[str, str]
    architecture: str = "amd64"


def when(base_time: int) -> str:
    """Seconds since 1970 as RFC 3339 in UTC."""
    moment = datetime.datetime.fromtimestamp(base_time, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def write_image(
    layer: bytes, config: ImageConfiguration, name: str, base_time: int, output: BinaryIO
) -> str:
    """Write the archive; the manifest's digest. `name` is the reference that engines show."""
    layer_digest = _digest(layer)
    config_body = _json(_config(config, layer_digest, base_time))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, config_body),
            "layers": [_descriptor(LAYER, layer)],
        }
    )
    described: dict[str, Any] = {
        **_descriptor(MANIFEST, manifest),
        "platform": {"architecture": config.architecture, "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": name.rpartition(":")[2] or "latest",
                        "io.containerd.image.name": name},
    }  # fmt: skip
    docker = [{"Config": _blob(config_body), "RepoTags": [name], "Layers": [_blob(layer)]}]
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [described]}),
        "manifest.json": _json(docker),
        _blob(config_body): config_body,
        _blob(manifest): manifest,
        _blob(layer): layer,
    }
    _archive(files, base_time, output)
    return _digest(manifest)


def _config(config: ImageConfiguration, diff: str, base_time: int) -> dict[str, Any]:
    return {
        "created": when(base_time),
        "architecture": config.architecture,
        "os": "linux",
        "config": {
            "User": config.user,
            "ExposedPorts": {port: {} for port in config.ports},
            "Env": list(config.environment),
            "Entrypoint": list(config.command),
            "WorkingDir": config.folder,
            "Volumes": {f"/{path}": {} for path in config.volumes},
            "StopSignal": config.signal,
            "Labels": config.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [diff]},
        "history": [{"created": when(base_time), "created_by": "ringfence harden"}],
    }


def _archive(files: dict[str, bytes], base_time: int, output: BinaryIO) -> None:
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder in ("blobs", "blobs/sha256"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, base_time
            archive.addfile(member)
        for path, body in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode, member.mtime = len(body), 0o644, base_time
            archive.addfile(member, io.BytesIO(body))


def _descriptor(kind: str, body: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(body), "size": len(body)}


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _blob(body: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(body).hexdigest()}"


def _json(document: Any) -> bytes:
    return msgspec.json.encode(document, order="sorted")
