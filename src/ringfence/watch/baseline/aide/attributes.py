"""Attributes of AIDE 0.18 and what they are here: aide.conf(5), and the bits of its `attr` field.

The bits were read from databases that AIDE 0.18.3 wrote with one attribute at a time;
tests/system/test_watch_aide.py does so again.
"""

from __future__ import annotations

from ringfence.watch.baseline.compare import USUAL
from ringfence.watch.baseline.rules import Mode

GROWING = "growing"
IGNORED = frozenset({"a", "b", "e2fsattrs", "I", "ANF", "ARF", "compressed"})
"""Attributes that are not looked at here: the note on a taken-over configuration names them."""
HASHES = frozenset({
    "md5", "sha1", "sha256", "sha512", "rmd160", "tiger", "crc32", "crc32b", "haval", "gost",
    "whirlpool", "stribog256", "stribog512",
})  # fmt: skip
NAMES = {
    "p": ("mode",), "ftype": ("type",), "i": ("inode",), "l": ("target",), "n": ("links",),
    "u": ("owner",), "g": ("group",), "s": ("size",), "m": ("mtime",), "c": ("ctime",),
    "S": ("size", GROWING), "growing": (GROWING,), "acl": ("acl", "default-acl"),
    "selinux": ("xattrs",), "xattrs": ("xattrs",), "caps": ("xattrs",),
}  # fmt: skip
GROUPS = {
    "X": "acl+selinux+xattrs+e2fsattrs+caps",
    "E": "",
    "H": "sha256+sha512+md5",
    "R": "p+ftype+i+l+n+u+g+s+m+c+md5+X",
    "L": "p+ftype+i+l+n+u+g+X",
    ">": "p+ftype+i+l+n+u+g+s+growing+X",
}
"""Groups that are built in."""
BITS = {
    "target": 1, "mode": 2, "owner": 3, "group": 4, "size": 5, "ctime": 7, "mtime": 8,
    "inode": 9, "links": 11, "acl": 21, "S": 26, "xattrs": 33, "type": 35, GROWING: 40,
}  # fmt: skip
"""Bit of an entry's `attr` field -> what the entry then has."""


def ours(expression: frozenset[str]) -> tuple[Mode, tuple[str, ...]]:
    """The mode and the attributes to compare of a set of AIDE's attributes.

    The device number and the mount state, which AIDE does not know, are compared with the type.
    """
    names: set[str] = set()
    for word in expression:
        names.update(("content",) if word in HASHES else NAMES.get(word, ()))
    if "type" in names:
        names.add("device")
    mode = Mode.METADATA
    if GROWING in names:
        mode = Mode.GROWS
        names -= {"mtime", "ctime"}
    elif "content" in names:
        mode = Mode.EXACT
    order = (*USUAL, "mtime", "ctime", "inode")
    return mode, tuple(name for name in order if name in names)
