"""What a baseline knows of one file, and the order in which it keeps them."""

from __future__ import annotations

import stat

import msgspec

FILE, DIRECTORY, LINK, FIFO, SOCKET, BLOCK, CHAR = "f", "d", "l", "p", "s", "b", "c"
KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: LINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFSOCK: SOCKET,
    stat.S_IFBLK: BLOCK,
    stat.S_IFCHR: CHAR,
}
"""File type bits of st_mode (inode(7)) -> the letter of `find -type`."""
KIND_NAMES = {
    FILE: "file", DIRECTORY: "directory", LINK: "symlink", FIFO: "FIFO", SOCKET: "socket",
    BLOCK: "block device", CHAR: "character device",
}  # fmt: skip
ALGORITHMS = {"sha256": 32, "blake3": 32, "sha512": 64, "sha1": 20, "md5": 16}
"""Content digests and their bytes; the last three only for databases of AIDE."""

Xattrs = tuple[tuple[bytes, bytes], ...]


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One file by its `name` in its folder; the root itself has the name ''.

    A field is None where the source does not tell (a tar archive knows no inode) or where the
    type has no such thing (the size of a directory is its file system's affair). `mode` is the
    twelve permission bits; times are nanoseconds since 1970; `device` is st_rdev; `xattrs` are
    sorted and do not hold the ACLs, which are the kernel's binary form. `digest` covers all
    bytes, or with `sparse` what `digests.py` says. `unread` says why there is no digest.
    """

    name: bytes
    kind: str
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    links: int | None = None
    device: int | None = None
    target: bytes | None = None
    xattrs: Xattrs | None = None
    acl: bytes | None = None
    default_acl: bytes | None = None
    digest: bytes | None = None
    mount: bool | None = None
    mtime: int | None = None
    ctime: int | None = None
    inode: int | None = None
    sparse: bool = False
    unread: str = ""


Group = tuple[bytes, list[Entry]]
"""A folder's path, without a slash at either end, and files in it by name."""
Key = tuple[bytes, bytes]
"""Where an entry stands in the order of a baseline; see `key`."""


def algorithm_of(digest: bytes, usual: str) -> str:
    """The algorithm of a digest in a baseline whose entries have the `usual` one, or another that
    its length tells."""
    if len(digest) in (0, ALGORITHMS[usual]):
        return usual
    return next(name for name, length in ALGORITHMS.items() if length == len(digest))


def size_of(entry: Entry) -> int | None:
    """The size that stat(2) tells: of a symlink, whose size is not kept, the length of its target.
    Of a directory None."""
    if entry.kind == LINK and entry.size is None and entry.target is not None:
        return len(entry.target)
    return entry.size


def key(folder: bytes, name: bytes) -> Key:
    """Folders in the order of a walk (each before what is below it), names by their bytes.

    A slash sorts as the zero byte, which no name can hold, so `a/b` comes before `a.b`.
    """
    return folder.replace(b"/", b"\0"), name


def joined(folder: bytes, name: bytes) -> bytes:
    """The path below the target's root, without a leading slash; the root itself is ''."""
    return folder + b"/" + name if folder and name else folder or name
