"""The one layer: a tar archive whose bytes depend on nothing but its entries and the base time."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from typing import BinaryIO

from ringfence.harden.layout import Entry
from ringfence.harden.tree import Tree

_TYPES = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}


def write_layer(entries: Iterable[Entry], tree: Tree, base_time: int, output: BinaryIO) -> None:
    """The entries in the order given, in pax format, all dated `base_time` (seconds since 1970)."""
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
                body = tree.read(entry.source, 1 << 40)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
