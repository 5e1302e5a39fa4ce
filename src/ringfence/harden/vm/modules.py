"""Drivers that a stock kernel keeps outside itself: the modules to load, each after what it needs.

Folders as `make modules_install` lays them out; depmod need not have run. What a module needs
stands in its section .modinfo (include/linux/moduleparam.h in Linux).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import msgspec

from ringfence.collect.files.streams import Stretch, expanded, whole_file
from ringfence.collect.guest.bzimage import is_bzimage
from ringfence.collect.guest.elf import read_layout
from ringfence.collect.guest.source import Cut, Source
from ringfence.errors import InputError

WANTED = ("virtio_pci", "virtio_net")
"""The bus and the network device of virtual machines; the service lies in memory."""
HEAD, _VERSION_AT, _MOST_VERSION = 64 << 10, 0x20E, 256
MOST_MODULE, MOST_INFO, MOST_LIST = 64 << 20, 1 << 20, 4 << 20
_ENDINGS = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")


class Module(msgspec.Struct, frozen=True):
    """A module by its name, expanded."""

    name: str
    body: bytes


def kernel_release(path: Path) -> str:
    """The release of a Linux boot image, such as `6.1.0-13-cloud-amd64`. Raises InputError."""
    head = whole_file(path).read(HEAD)
    if is_bzimage(head):
        (pointer,) = struct.unpack_from("<H", head, _VERSION_AT)
        start = pointer + 0x200
        text = head[start : start + _MOST_VERSION].split(b"\0", 1)[0].decode("latin-1")
        release = text.split(" ", 1)[0]
        if pointer and release and "/" not in release and release.isprintable():
            return release
    raise InputError(
        "is no Linux boot image (bzImage)", where=str(path),
        remedy="name one such as /boot/vmlinuz-VERSION",
    )  # fmt: skip


def find_modules(kernel: Path, given: Path | None) -> tuple[Module, ...] | None:
    """The modules for `kernel`, in the order to load them; those built into it are left out.

    None where no folder was given and none lies beside the kernel: then the kernel must have the
    drivers built in. Raises InputError for a folder without this kernel's modules.
    """
    release = kernel_release(kernel)
    folder = _folder(given or kernel.absolute().parent.parent, release)
    if folder is None and given is not None:
        raise InputError(
            f"has no modules of {release}", where=str(given),
            remedy="name the folder that has lib/modules, of the same package as the kernel",
        )  # fmt: skip
    return None if folder is None else _in_order(folder)


def _folder(top: Path, release: str) -> Path | None:
    places = (top / "lib/modules" / release, top / "usr/lib/modules" / release, top / release)
    own = (top,) if top.name == release else ()
    return next((path for path in (*places, *own) if (path / "kernel").is_dir()), None)


def _in_order(folder: Path) -> tuple[Module, ...]:
    paths, builtin = _paths(folder), _builtin(folder)
    found: dict[str, Module] = {}
    pending: set[str] = set()

    def add(name: str, wanted_by: str) -> None:
        if name in found or name in builtin or name in pending:
            return
        if name not in paths:
            raise InputError(f"has no module {name}, which {wanted_by} needs", where=str(folder))
        pending.add(name)
        body = _body(paths[name])
        for other in needed_by(body, str(paths[name])):
            add(other, name)
        found[name] = Module(name, body)

    for name in WANTED:
        add(name, "the machine")
    return tuple(found.values())


def _paths(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for place, _, names in os.walk(folder / "kernel"):
        for name in names:
            if name.endswith(_ENDINGS):
                found.setdefault(_plain(name), Path(place, name))
    return found


def _builtin(folder: Path) -> frozenset[str]:
    path = folder / "modules.builtin"
    if not path.is_file():
        return frozenset()
    text = whole_file(path).read(MOST_LIST).decode("utf-8", "replace")
    return frozenset(_plain(line.rpartition("/")[2]) for line in text.splitlines())


def _plain(name: str) -> str:
    """A module's name: `virtio-rng.ko.xz` is virtio_rng to the kernel."""
    return name.split(".", 1)[0].replace("-", "_")


def _body(path: Path) -> bytes:
    if path.is_symlink():
        raise InputError("is a link: modules are plain files", where=str(path))
    source = expanded(whole_file(path))
    size = len(source.data) if isinstance(source, Stretch) else MOST_MODULE + 1
    body = source.read(min(size, MOST_MODULE + 1))
    if len(body) > MOST_MODULE:
        raise InputError(f"is larger than {MOST_MODULE >> 20} MiB", where=str(path))
    return body


def needed_by(body: bytes, where: str) -> tuple[str, ...]:
    """The modules that this one needs, by its own word. Raises InputError where it is none."""
    try:
        source = Source(body, where)
        section = read_layout(source).section(".modinfo")
        if section is None:
            raise Cut("it has no section .modinfo")
        info = source.exactly(section.offset, min(section.size, MOST_INFO))
    except Cut as error:
        raise InputError(f"is no kernel module: {error}", where=where) from None
    for word in info.split(b"\0"):
        if word.startswith(b"depends="):
            names = word.removeprefix(b"depends=").decode("utf-8", "replace").split(",")
            return tuple(_plain(name) for name in names if name)
    return ()
