"""Images packed as a whole: a compressed kernel (vmlinux.gz, Image.gz), and Hermit's, a gzip tar.

Hermit's image holds `hermit.toml`, which names the kernel, and the files of the application:
https://github.com/hermit-os/hermit-entry/blob/main/src/config.rs.
"""

from __future__ import annotations

from ringfence.collect.files.elf import MAGIC as ELF
from ringfence.collect.files.paths import inside
from ringfence.collect.files.streams import Stretch
from ringfence.collect.files.tar import members
from ringfence.collect.guest.arm64 import is_arm64
from ringfence.collect.guest.marks import Reading
from ringfence.collect.guest.payload import begin, expand
from ringfence.collect.guest.source import Cut, Source
from ringfence.errors import InputError
from ringfence.untrusted import Undecodable, decode_toml

CONFIGURATION = "hermit.toml"
MOST_PACKED = 96 << 20
PEEKED = 1 << 20
"""Expanded bytes that are looked at to tell such an image from a root file system."""
MOST_CONFIGURATION = 64 << 10
MOST_MEMBERS = 10_000


def is_packed(source: Source) -> bool:
    """Whether a compressed file begins with a kernel or with the members of a Hermit image."""
    head = begin(source.read(0, PEEKED), PEEKED)
    return head.startswith(ELF) or is_arm64(head) or CONFIGURATION in _files(head, source.name)


def read_packed(source: Source, reading: Reading) -> Source:
    """The kernel inside. Raises Cut where there is none."""
    if source.size > MOST_PACKED:
        raise Cut(f"it is larger than {MOST_PACKED >> 20} MiB")
    name, data = expand(source.read(0, source.size))
    reading.fact("packed", source, 0, f"{name}, {source.size:,} to {len(data):,} bytes")
    if data.startswith(ELF) or is_arm64(data):
        return source.inside(data, "expanded kernel")
    files = _files(data, source.name)
    if CONFIGURATION not in files:
        raise Cut("what it expands to is neither a kernel nor an image of Hermit")
    start, size = files[CONFIGURATION]
    kernel = _kernel(data[start : start + min(size, MOST_CONFIGURATION)])
    archive = source.inside(data, "expanded archive")
    reading.mark("magic:hermit-image", archive, start, f"{CONFIGURATION} in a tar archive")
    reading.fact("files of the application", archive, 0, f"{len(files) - 2:,} beside the kernel")
    if kernel not in files:
        raise Cut(f"{CONFIGURATION} names the kernel {kernel!r}, which is not there")
    return archive.part(*files[kernel])


def _files(data: bytes, name: str) -> dict[str, tuple[int, int]]:
    """Path -> (offset, size) of the plain files of a tar archive, as far as it goes."""
    found: dict[str, tuple[int, int]] = {}
    archive = Stretch(data, name, 0, len(data))
    try:
        for count, member in enumerate(members(archive)):
            if count >= MOST_MEMBERS:
                break
            path = inside(member.path)
            if member.kind == "0" and path:
                found[path] = (archive.tell(), member.stored)
    except InputError:
        # No tar archive, or the beginning of one: what was found until here is there.
        pass
    return found


def _kernel(text: bytes) -> str:
    """The path that a configuration of version 1 names. Raises Cut."""
    try:
        document = decode_toml(text)
    except Undecodable as error:
        raise Cut(f"{CONFIGURATION} is no TOML: {error}") from None
    kernel = document.get("kernel")
    if document.get("version") != "1" or not isinstance(kernel, str):
        raise Cut(f"{CONFIGURATION} is not of version 1, or names no kernel")
    return inside(kernel) or ""
