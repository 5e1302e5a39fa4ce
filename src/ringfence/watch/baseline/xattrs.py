"""Extended attributes and ACLs of a file, as an entry keeps them (xattr(7), acl(5))."""

from __future__ import annotations

import errno
import hashlib
import os

from ringfence.watch.baseline.entry import Xattrs

MOST_VALUE, MOST_VALUES = 4096, 16384
"""Bytes of one extended attribute, and of all of a file, that are kept; more become a digest."""
ACCESS_ACL, DEFAULT_ACL = b"system.posix_acl_access", b"system.posix_acl_default"

Attributes = tuple[Xattrs | None, bytes | None, bytes | None]
"""Extended attributes, access ACL, default ACL; b'' where there is no ACL, None where unknown."""
_NOTHING: Attributes = ((), b"", b"")


def attributes(place: int | str) -> Attributes:
    """Extended attributes, access ACL and default ACL of a descriptor or path.

    An ACL that is not there is b''; all three are None where the file system refuses.
    """
    try:
        names = os.listxattr(place)
    except OSError as error:
        return _NOTHING if error.errno == errno.ENOTSUP else (None, None, None)
    if not names:
        return _NOTHING
    values = {}
    for text in names:
        name = os.fsencode(text)
        try:
            values[name] = os.getxattr(place, name)
        except OSError:  # gone since, or not ours to read
            continue
    acl, default = values.pop(ACCESS_ACL, b""), values.pop(DEFAULT_ACL, b"")
    return kept(values), acl, default


def kept(values: dict[bytes, bytes]) -> Xattrs:
    """Extended attributes as an entry has them: sorted, large values as their SHA-256."""
    rows = [
        (name, value if len(value) <= MOST_VALUE else b"sha256:" + hashlib.sha256(value).digest())
        for name, value in sorted(values.items())
    ]
    if sum(len(name) + len(value) for name, value in rows) <= MOST_VALUES:
        return tuple(rows)
    state = hashlib.sha256()
    for name, value in rows:
        state.update(b"%d %d " % (len(name), len(value)) + name + value)
    return ((b"*", b"sha256:" + state.digest()),)
