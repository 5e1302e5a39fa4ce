"""A cpio archive in the format `newc`, which kernels unpack as their first root file system. Pure.

The same bytes for the same members. Format: Documentation/driver-api/early-userspace/
buffer-format.rst in Linux; cpio(5).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

import msgspec

from ringfence.errors import InputError

_MAGIC, _END = b"070701", "TRAILER!!!"
_MOST = 0xFFFFFFFF
"""Largest number that eight hexadecimal digits hold."""
_ALIGNED = 4


class Member(msgspec.Struct, frozen=True):
    """One member: `path` relative to the root, `.` for the root itself; `mode` with the file's
    type, as in stat(2). `body` of a symlink is its target."""

    path: str
    mode: int
    uid: int = 0
    gid: int = 0
    body: bytes = b""


def archive(members: Iterable[Member], time: int = 0) -> bytes:
    """The archive, in the order given, all dated `time` (seconds since 1970).

    Raises InputError for a path or a size that the format cannot hold.
    """
    out = bytearray()
    for number, member in enumerate(members, 1):
        _add(out, member, number, time)
    _add(out, Member(_END, 0), 0, 0)
    return bytes(out)


def _add(out: bytearray, member: Member, number: int, time: int) -> None:
    name = os.fsencode(member.path)
    if not name or b"\0" in name or name.startswith(b"/"):
        raise InputError("is no path of an archive", where=repr(member.path))
    links = 0 if member.path == _END else 2 if stat.S_ISDIR(member.mode) else 1
    fields = (number, member.mode, member.uid, member.gid, links, time, len(member.body),
              0, 0, 0, 0, len(name) + 1, 0)  # fmt: skip
    if any(not 0 <= field <= _MOST for field in fields):
        raise InputError("its size, owner or date is too large for cpio", where=member.path)
    out += _MAGIC + b"".join(b"%08X" % field for field in fields) + name + b"\0"
    out += bytes(-len(out) % _ALIGNED)
    out += member.body
    out += bytes(-len(out) % _ALIGNED)
