"""POSIX ACLs: what the kernel holds, and the text of getfacl(1)."""

from __future__ import annotations

import grp
import pwd

from ringfence.acl import (
    ENTRY,
    GROUP,
    HEADER,
    MASK,
    OTHER,
    OWNER,
    OWNING_GROUP,
    UNDEFINED,
    USER,
    VERSION,
    entries,
    text,
)

_OWN = {"user": OWNER, "group": OWNING_GROUP, "mask": MASK, "other": OTHER}
_NAMED = {"user": USER, "group": GROUP}


def acl_text(data: bytes) -> str:
    """One line, entries after commas, ids as numbers: `user::rw-,user:1:r--,...`; '' for none."""
    found = entries(data)
    return text(found) if found is not None else f"unreadable: {data[:64].hex()}"


def acl_bytes(written: str) -> bytes | None:
    """The binary form of getfacl's text, with the names of this host. b'' for an ACL that says
    no more than the mode does; None when a name is not known here or the text makes no sense."""
    rows = []
    for line in written.replace(",", "\n").split():
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
    return HEADER.pack(VERSION) + b"".join(ENTRY.pack(*row) for row in sorted(rows))


def _number(kind: str, who: str) -> int | None:
    if not who:
        return UNDEFINED
    if who.isdigit():
        return int(who)
    try:
        return pwd.getpwnam(who).pw_uid if kind == "user" else grp.getgrnam(who).gr_gid
    except KeyError:
        return None
