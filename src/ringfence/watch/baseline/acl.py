"""POSIX ACLs: the kernel's binary form of system.posix_acl_access, and the text of getfacl(1).

struct posix_acl_xattr_header and _entry of linux/posix_acl_xattr.h: a version of 4 bytes, then
tag, permissions (2 bytes each) and id (4 bytes) for each entry, all little-endian.
"""

from __future__ import annotations

import grp
import pwd
import struct

VERSION = 2
UNDEFINED = 0xFFFFFFFF
_TAGS = {0x01: "user", 0x02: "user", 0x04: "group", 0x08: "group", 0x10: "mask", 0x20: "other"}
_OWN = {"user": 0x01, "group": 0x04, "mask": 0x10, "other": 0x20}
_NAMED = {"user": 0x02, "group": 0x08}
_ENTRY = struct.Struct("<HHI")


def acl_text(data: bytes) -> str:
    """One line, entries after commas, ids as numbers: `user::rw-,user:1:r--,...`; '' for none."""
    if not data:
        return ""
    if len(data) < 4 or (len(data) - 4) % _ENTRY.size:
        return f"unreadable: {data[:64].hex()}"
    parts = []
    for tag, bits, number in _ENTRY.iter_unpack(data[4:]):
        who = "" if number == UNDEFINED else str(number)
        rights = "".join(
            letter if bits & bit else "-" for letter, bit in zip("rwx", (4, 2, 1), strict=True)
        )
        parts.append(f"{_TAGS.get(tag, hex(tag))}:{who}:{rights}")
    return ",".join(parts)


def acl_bytes(text: str) -> bytes | None:
    """The binary form of getfacl's text, with the names of this host. b'' for an ACL that says
    no more than the mode does; None when a name is not known here or the text makes no sense."""
    rows = []
    for line in text.replace(",", "\n").split():
        parts = line.split(":")
        if len(parts) != 3 or parts[0] not in _OWN:
            return None
        kind, who, rights = parts
        number = _number(kind, who)
        if number is None or (who and kind not in _NAMED):
            return None
        bits = sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in rights)
        rows.append((_NAMED[kind] if who else _OWN[kind], bits, number))
    if len(rows) <= 3:
        return b""
    return struct.pack("<I", VERSION) + b"".join(_ENTRY.pack(*row) for row in sorted(rows))


def _number(kind: str, who: str) -> int | None:
    if not who:
        return UNDEFINED
    if who.isdigit():
        return int(who)
    try:
        return pwd.getpwnam(who).pw_uid if kind == "user" else grp.getgrnam(who).gr_gid
    except KeyError:
        return None
