"""POSIX ACLs (acl(5)), as the extended attribute system.posix_acl_access holds them.

struct posix_acl_xattr_header and _entry of linux/posix_acl_xattr.h: a version of 4 bytes, then
tag, permissions (2 bytes each) and id (4 bytes) for each entry, all little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import msgspec

ATTRIBUTE = "system.posix_acl_access"
HEADER = struct.Struct("<I")
ENTRY = struct.Struct("<HHI")
VERSION = 2
UNDEFINED = 0xFFFFFFFF
"""The id of an entry whose tag says all."""
OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_WORDS = {OWNER: "user", USER: "user", OWNING_GROUP: "group", GROUP: "group", MASK: "mask",
          OTHER: "other"}  # fmt: skip


class Entry(msgspec.Struct, frozen=True):
    """Who (`tag`, with the `number` of a named user or group) may do what (`bits`: 4 read, 2 write,
    1 execute)."""

    tag: int
    bits: int
    number: int = UNDEFINED


def entries(data: bytes) -> tuple[Entry, ...] | None:
    """The entries of the attribute, none for b''; None where it makes no sense."""
    if not data:
        return ()
    if len(data) < HEADER.size or (len(data) - HEADER.size) % ENTRY.size:
        return None
    return tuple(Entry(*row) for row in ENTRY.iter_unpack(data[HEADER.size :]))


def text(found: Iterable[Entry]) -> str:
    """One line, entries after commas, ids as numbers: `user::rw-,user:1:r--,...`."""
    parts = []
    for entry in found:
        who = "" if entry.number == UNDEFINED else str(entry.number)
        rights = "".join(
            letter if entry.bits & bit else "-"
            for letter, bit in zip("rwx", (4, 2, 1), strict=True)
        )
        parts.append(f"{_WORDS.get(entry.tag, hex(entry.tag))}:{who}:{rights}")
    return ",".join(parts)


def permits(
    found: tuple[Entry, ...], owner: int, group: int, uid: int | None, gids: Iterable[int], bit: int
) -> bool:
    """Whether a list lets `uid` with the groups `gids` do `bit` with a file of `owner` and `group`:
    the access check algorithm of acl(5)."""
    mask = next((entry.bits for entry in found if entry.tag == MASK), 7)
    if uid == owner:
        return any(entry.tag == OWNER and entry.bits & bit for entry in found)
    for entry in found:
        if entry.tag == USER and entry.number == uid:
            return bool(entry.bits & mask & bit)
    mine = frozenset(gids)
    groups = [
        entry.bits
        for entry in found
        if (entry.tag == OWNING_GROUP and group in mine)
        or (entry.tag == GROUP and entry.number in mine)
    ]
    if groups:
        return any(bits & mask & bit for bits in groups)
    return any(entry.tag == OTHER and entry.bits & bit for entry in found)
