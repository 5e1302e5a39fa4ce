"""The one layer: a tar archive whose bytes depend on nothing but its entries and the base time."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from typing import BinaryIO

from ringfence.errors import InputError
from ringfence.harden.layout import Entry
from ringfence.harden.tree import Tree

_TYPES = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}


SHARE = 4
"""Of this host's memory, one in so many is for a layer: it is there several times, and so is what
else is made of it."""


def write_layer(
    entries: Iterable[Entry],
    tree: Tree,
    base_time: int,
    output: BinaryIO,
    most: int | None = None,
) -> None:
    """The entries in the order given, in pax format, all dated `base_time` (seconds since 1970).

    Raises InputError when their files are larger than `most` bytes together, by default a share
    of this host's memory.
    """
    left = _memory() // SHARE if most is None else most
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.type = _TYPES[entry.kind]
            member.mode, member.uid, member.gid = entry.mode, entry.uid, entry.gid
            member.mtime = base_time
            member.linkname = entry.target
            if entry.kind != "file":
                archive.addfile(member)
                continue
            body = entry.content
            if body is None:
                left -= _size(tree, entry.source)
                if left < 0:
                    raise InputError(
                        "makes the image too large: it is put together in memory",
                        where=f"/{entry.source}",
                        remedy="leave large data out with --drop, and give it a volume",
                    )
                body = tree.read(entry.source, 1 << 40)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))


def _size(tree: Tree, path: str) -> int:
    status = tree.status(tree.resolve(path)[0])
    return status.st_size if status is not None else 0


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
