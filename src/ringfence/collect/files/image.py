"""Container images: OCI layouts and archives, and what `docker save` writes. Read in place.

https://github.com/opencontainers/image-spec. Nothing is unpacked: layers are read where they
lie, every blob is checked against its digest, and documents have a bound.
"""

from __future__ import annotations

import os
import platform as machine
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ringfence.collect.container.document import rows, table, words
from ringfence.collect.container.gojson import decode
from ringfence.collect.files.accounts import ACCOUNTS, uid_of
from ringfence.collect.files.census import Census
from ringfence.collect.files.layers import Layers, merged
from ringfence.collect.files.paths import inside
from ringfence.collect.files.streams import Expanded, Stretch, expanded, whole_file
from ringfence.collect.files.tar import members
from ringfence.errors import InputError
from ringfence.model.evidence import Evidence, Grade, Unseen
from ringfence.model.facts import ImageConfig
from ringfence.model.files import Tree
from ringfence.untrusted import Undecodable

MOST_DOCUMENT = 4 << 20
MOST_LAYERS = 1024
MOST_NESTED = 4
ROOT_FOLDERS = ("usr", "etc", "bin")
MARKS = frozenset({"oci-layout", "index.json", "manifest.json"})
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
_INDEX = ("application/vnd.oci.image.index.v1+json",
          "application/vnd.docker.distribution.manifest.list.v2+json")  # fmt: skip


class ImageReading(msgspec.Struct, frozen=True):
    """An image's merged tree and its configuration; `unseen` is what made no sense there."""

    tree: Tree
    config: ImageConfig
    unseen: tuple[Unseen, ...] = ()


class ImageParts(msgspec.Struct, frozen=True):
    """An opened image: its configuration document, its digest, and its layers from the lowest,
    whose bytes are held against their digests when `layers` is called. `verified`: all of them have
    one, so that `digest` says what they are (not so where `docker save` wrote them)."""

    name: str
    document: dict[str, Any]
    layers: Callable[[], list[Stretch | Expanded]]
    digest: str
    verified: bool = True


class _Store:
    """Where blobs lie: a folder, or the members of an archive."""

    def __init__(self, name: str, find: Callable[[str], Stretch | None]) -> None:
        self.name = name
        self._find = find

    def has(self, path: str) -> bool:
        return self._find(path) is not None

    def source(self, path: str) -> Stretch:
        """The blob or document at `path`. Raises InputError when it is missing."""
        found = self._find(path)
        if found is None:
            raise InputError(f"{path} is missing", where=self.name, remedy="fetch the image again")
        return found

    def blob(self, digest: str) -> Stretch:
        """A blob by its digest, checked against it."""
        kind, _, value = digest.partition(":")
        if kind != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise InputError(f"digest {digest[:80]!r} is none of sha256", where=self.name)
        found = self.source(f"blobs/sha256/{value}")
        if found.digest() != value:
            raise InputError(
                f"blob {value[:12]} does not have its digest",
                where=self.name,
                remedy="the image was changed or damaged: fetch it again",
            )
        return found

    def document(self, source: Stretch) -> Any:
        """A JSON document of sensible size."""
        data = source.read(MOST_DOCUMENT + 1)
        if len(data) > MOST_DOCUMENT:
            raise InputError("a document is larger than 4 MiB", where=self.name)
        try:
            return decode(data)
        except Undecodable as error:
            raise InputError(f"a document is no JSON: {error}", where=self.name) from None


def sniff(path: Path) -> str | None:
    """`image`, `rootfs`, or None for what is neither."""
    if path.is_dir():
        if any(os.path.isfile(path / name) for name in ("oci-layout", "manifest.json")):
            return "image"
        return "rootfs" if any(os.path.isdir(path / name) for name in ROOT_FOLDERS) else None
    if not path.is_file() or path.stat().st_size < 512:
        return None
    try:
        source = expanded(whole_file(path))
        return "image" if _has_mark(source) else "rootfs"
    except InputError:
        return None


def _has_mark(source: Stretch | Expanded) -> bool:
    """Whether an archive's top level has the documents of an image.

    An image has blobs and little else, so a folder of a root file system settles it early.
    """
    for count, member in enumerate(members(source)):
        path = inside(member.path) or ""
        if path in MARKS:
            return True
        if path.partition("/")[0] in ("usr", "etc", "bin", "lib", "var") or count > 20_000:
            return False
    return False


def read_tar(path: Path) -> Tree:
    """The tree of a root file system in a tar archive. Raises InputError when it is none."""
    return _tree(merged([expanded(whole_file(path))]), str(path))


def _tree(layers: Layers, source: str) -> Tree:
    evidence = Evidence(Grade.OBSERVED, source, f"{len(layers.files)} files")
    counted = Census(layers.files.values())
    return counted.tree(layers.bodies, evidence, layers.unseen(), complete=layers.complete)


def read_image(path: Path, platform: str = "") -> ImageReading:
    """An image's tree and configuration. `platform` is an architecture such as `arm64`.

    Raises InputError for a broken image, or one without this platform.
    """
    return _reading(open_image(path, platform))


def open_image(path: Path, platform: str = "") -> ImageParts:
    """An image's configuration and layers, none of them read yet. Raises like `read_image`."""
    store = _folder(path) if path.is_dir() else _archive(path)
    wanted = platform or _ARCHITECTURES.get(machine.machine(), machine.machine())
    if store.has("index.json"):
        return _open_oci(store, wanted)
    if store.has("manifest.json"):
        return _open_docker(store)
    raise InputError("has neither index.json nor manifest.json", where=str(path))


def _folder(path: Path) -> _Store:
    def find(name: str) -> Stretch | None:
        clean = inside(name)
        return whole_file(path / clean) if clean and _is_plain(path, clean) else None

    return _Store(str(path), find)


def _is_plain(folder: Path, name: str) -> bool:
    """Whether `name` is a plain file below `folder`. A link, also one to a folder on the way,
    could lead anywhere on this host."""
    place = folder
    try:
        for part in name.split("/"):
            place /= part
            if place.is_symlink():
                return False
        return place.is_file()
    except OSError:  # a name that is too long, or a folder that may not be looked into
        return False


def _archive(path: Path) -> _Store:
    source = expanded(whole_file(path))
    if isinstance(source, Expanded):
        source = _unpacked(source)
    places: dict[str, Stretch] = {}
    links: dict[str, str] = {}
    twice: set[str] = set()
    for member in members(source):
        name = inside(member.path)
        if name and member.kind == "0":
            if name in places:
                twice.add(name)
            places[name] = source.part(member.stored)
        elif name and member.kind in ("1", "2"):
            # `docker save` links a layer that two images share.
            folder = name.rpartition("/")[0] if member.kind == "2" else ""
            links[name] = inside(f"{folder}/{member.target}") or ""
    if not source.at_end():
        raise InputError(
            "the archive is cut short", where=str(path), remedy="fetch the image again"
        )

    def find(name: str) -> Stretch | None:
        clean = inside(name) or ""
        if clean in twice:
            raise InputError(
                f"has {clean} twice, of which engines take the first and others the last",
                where=str(path), remedy="save the image again",
            )  # fmt: skip
        found = places.get(clean) or places.get(links.get(clean, ""))
        return None if found is None else _again(found)

    return _Store(str(path), find)


MOST_UNPACKED = 4 << 30


def _unpacked(source: Expanded) -> Stretch:
    """A compressed archive, expanded into memory: its documents may stand behind its layers."""
    parts = []
    total = 0
    while part := source.read(1 << 20):
        parts.append(part)
        total += len(part)
        if total > MOST_UNPACKED:
            raise InputError(
                "expands to more than 4 GiB", where=source.name, remedy="expand it to a file first"
            )
    data = b"".join(parts)
    return Stretch(data, source.name, 0, len(data))


def _open_oci(store: _Store, wanted: str) -> ImageParts:
    index = store.document(store.source("index.json"))
    manifest, digest = _manifest(store, index, wanted, 0)
    config_digest = table(manifest, "config").get("digest")
    if not isinstance(config_digest, str):
        raise InputError("the manifest names no configuration", where=store.name)
    config = store.document(store.blob(config_digest))
    listed = table(manifest).get("layers")
    if isinstance(listed, list):
        listed = [table(row).get("digest") for row in listed]
    names = _layers(store, listed)

    def layers() -> list[Stretch | Expanded]:
        # A digest may stand there a thousand times: its bytes are held against it once.
        blobs = {name: store.blob(name) for name in dict.fromkeys(names)}
        return [expanded(_again(blobs[name])) for name in names]

    return ImageParts(store.name, table(config, "config"), layers, digest)


def _layers(store: _Store, listed: object) -> list[str]:
    """The names of layers that a document lists. Raises InputError for what is no such list, or
    an unreasonably long one: a tree without some of its layers would be another tree."""
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    if not isinstance(listed, list) or len(names) < len(listed):
        raise InputError(
            "the manifest's layers are no list that names each of them",
            where=store.name,
            remedy="fetch or save the image again",
        )
    if len(names) > MOST_LAYERS:
        raise InputError(
            f"has {len(names)} layers, the most is {MOST_LAYERS}",
            where=store.name,
            remedy="squash it and save it again",
        )
    return names


def _again(source: Stretch) -> Stretch:
    """The whole of `source`, from its first byte."""
    return source.part(source.end - source.start)


def _manifest(store: _Store, index: Any, wanted: str, depth: int) -> tuple[Any, str]:
    """The manifest for the wanted platform, through indexes of indexes."""
    if depth > MOST_NESTED:
        raise InputError("indexes are nested too deep", where=store.name)
    found = [row for row in rows(index, "manifests") if _is_image(row)]
    if not found:
        raise InputError("the index lists no image", where=store.name)
    fitting = [row for row in found if _fits(row, wanted)]
    if not fitting:
        present = ", ".join(sorted({_platform(row) for row in found}))
        raise InputError(
            f"has no image for {wanted}, only for {present}",
            where=store.name,
            remedy="save the image of one platform",
        )
    digest = str(fitting[0].get("digest"))
    document = store.document(store.blob(digest))
    if fitting[0].get("mediaType") in _INDEX or "manifests" in table(document):
        return _manifest(store, document, wanted, depth + 1)
    return document, digest


def _is_image(row: dict[str, Any]) -> bool:
    """Attestations stand in an index beside the images, for a platform `unknown`."""
    return table(row, "platform").get("architecture") != "unknown"


def _fits(row: dict[str, Any], wanted: str) -> bool:
    """Whether it is of Linux and this architecture, or does not say what it is of."""
    stated = table(row, "platform")
    return stated.get("os") in (None, "", "linux") and stated.get("architecture") in (
        None, "", wanted,
    )  # fmt: skip


def _platform(row: dict[str, Any]) -> str:
    stated = table(row, "platform")
    found = [stated.get(name) for name in ("os", "architecture")]
    return "/".join(word for word in found if isinstance(word, str) and word != "linux")


def _open_docker(store: _Store) -> ImageParts:
    document = store.document(store.source("manifest.json"))
    images = rows({"images": document}, "images")
    if not images:
        raise InputError("manifest.json lists no image", where=store.name)
    if len(images) > 1:
        raise InputError(
            f"holds {len(images)} images", where=store.name, remedy="save one image at a time"
        )
    name = images[0].get("Config")
    if not isinstance(name, str):
        raise InputError("manifest.json names no configuration", where=store.name)
    config = store.document(store.source(name))
    listed = images[0].get("Layers", "")
    # An image of nothing has null there: that is how Go writes an empty list.
    names = _layers(store, [] if listed is None else listed)

    def layers() -> list[Stretch | Expanded]:
        return [expanded(store.source(layer)) for layer in names]

    digest = store.source(name).digest()  # an image's id; nothing says what its layers are
    return ImageParts(store.name, table(config, "config"), layers, f"sha256:{digest}", False)


def _reading(parts: ImageParts) -> ImageReading:
    said, layers = parts.document, parts.layers()
    user = said.get("User")
    stated = sorted(table(said, "ExposedPorts"))
    ports = [port for port in stated if _is_port(port)]
    odd = [port[:32] for port in stated if not _is_port(port)]
    name = user if isinstance(user, str) else ""
    laid = merged(layers)
    return ImageReading(
        tree=_tree(laid, parts.name),
        config=ImageConfig(
            user=name,
            uid=uid_of(name, laid.bodies.get(ACCOUNTS, b"")),
            program=next(iter((*words(said, "Entrypoint"), *words(said, "Cmd"))), ""),
            ports=tuple(ports),
            layers=len(layers),
            digest=parts.digest,
            evidence=Evidence(Grade.DECLARED, f"{parts.name}: image configuration"),
        ),
        unseen=(Unseen(f"exposed ports {', '.join(odd[:8])}", "make no sense"),) if odd else (),
    )


_PORT = re.compile(r"([0-9]{1,5})(?:/(?:tcp|udp|sctp))?")


def _is_port(text: str) -> bool:
    """`80`, `80/tcp`, `53/udp`: keys of ExposedPorts in the image specification."""
    match = _PORT.fullmatch(text)
    return match is not None and 0 < int(match[1]) < 65536
