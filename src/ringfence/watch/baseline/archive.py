"""Images and tar archives as sources of entries: read once, in place, never unpacked.

Layers are laid over each other as the OCI image format says (`collect.files.layers` has the
rules for facts; here every file counts). Archives do not tell inode, ctime, links and mounts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from ringfence.collect.files.layers import MOST_MEMBERS, too_many
from ringfence.collect.files.paths import inside, resolve_parent
from ringfence.collect.files.streams import Expanded, Stretch
from ringfence.collect.files.tar import Member, members
from ringfence.errors import InputError
from ringfence.watch.baseline.acl import acl_bytes
from ringfence.watch.baseline.digests import maker
from ringfence.watch.baseline.entry import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    LINK,
    Entry,
    Xattrs,
    joined,
)
from ringfence.watch.baseline.rules import Mode, Rules
from ringfence.watch.baseline.sorting import Sorter
from ringfence.watch.baseline.xattrs import ACCESS_ACL, DEFAULT_ACL, kept

PIECE = 1 << 20
MOST_IMPLIED = 256 << 20
"""Bytes of the names of folders that things lie in, of all layers: a long path has thousands."""
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
_KINDS = {"0": FILE, "2": LINK, "3": CHAR, "4": BLOCK, "5": DIRECTORY, "6": FIFO}
_XATTR = b"SCHILY.xattr."
_ACLS = {b"SCHILY.acl.access": ACCESS_ACL, b"SCHILY.acl.default": DEFAULT_ACL}
_SELINUX = b"RHT.security.selinux"


class Archive:
    """Lays archives into `sorter`. `image`: every layer tells extended attributes, also by
    saying nothing; a plain tar archive tells them only where it has them."""

    def __init__(self, sorter: Sorter, algorithm: str, rules: Rules, *, image: bool) -> None:
        self.unseen: list[tuple[bytes, str]] = []
        self.bytes = 0
        self.files = 0
        self._sorter = sorter
        self._make = maker(algorithm)
        self._rules = rules
        self._image = image
        self._members = 0
        self._links: dict[str, str] = {}
        self._implied: set[bytes] = set()
        self._implied_bytes = 0
        sorter.imply(b"", b"")

    def lay(self, sources: Iterable[Stretch | Expanded]) -> None:
        """All layers, the lowest first. Raises InputError for what is no archive, for an image
        of more than MOST_MEMBERS files, and for folders deeper than anyone has them."""
        for number, source in enumerate(sources):
            self._layer(source, number)

    def _layer(self, source: Stretch | Expanded, number: int) -> None:
        links = dict(self._links)
        gone: list[tuple[bytes, bytes]] = []
        emptied: list[bytes] = []
        for member in members(source):
            self._members += 1
            if self._image and self._members > MOST_MEMBERS:
                raise too_many(source.name)
            path = inside(member.path)
            path = resolve_parent(path, links) if path else path
            if path is None:
                self.unseen.append(
                    (os.fsencode(member.path[:256]), "its name leads out of the root")
                )
                continue
            folder, _, name = path.rpartition("/")
            if name == OPAQUE:
                emptied.append(os.fsencode(folder))
            elif name.startswith(WHITEOUT):
                gone.append((os.fsencode(folder), os.fsencode(name.removeprefix(WHITEOUT))))
            else:
                self._put(member, os.fsencode(folder), os.fsencode(name), source, number)
                links.pop(path, None)
                if member.kind == "2":
                    links[path] = member.target
        if not source.at_end():
            raise InputError("the archive is cut short", where=source.name,
                             remedy="is the file whole? fetch it again")  # fmt: skip
        self._take_away(gone, emptied, number, links)

    def _take_away(
        self, gone: list[tuple[bytes, bytes]], emptied: list[bytes], number: int,
        links: dict[str, str],
    ) -> None:  # fmt: skip
        for folder in emptied:
            self._sorter.empty(folder, number)
        for folder, name in gone:
            self._sorter.remove(folder, name, number)
            self._sorter.empty(joined(folder, name), number)
        self._links = {
            path: target for path, target in links.items()
            if not (gone or emptied) or self._is_link(os.fsencode(path))
        }  # fmt: skip
        self._implied.clear()

    def _is_link(self, path: bytes) -> bool:
        folder, _, name = path.rpartition(b"/")
        found = self._sorter.get(folder, name)
        return found is not None and found.kind == LINK

    def _put(
        self, member: Member, folder: bytes, name: bytes, source: Stretch | Expanded, layer: int
    ) -> None:
        self._imply(folder, layer)
        if self._implied_bytes > MOST_IMPLIED:
            raise InputError(
                f"the names of its folders take more than {MOST_IMPLIED >> 20} MiB",
                where=source.name,
                remedy="write the archive again with folders that are less deep",
            )
        former = self._sorter.get(folder, name) if layer else None
        if former is not None and former.kind == DIRECTORY and member.kind != "5":
            self._sorter.empty(joined(folder, name), layer)
        entry = self._entry(member, folder, name, source)
        if entry is not None:
            self._sorter.put(folder, entry, layer)

    def _imply(self, folder: bytes, layer: int) -> None:
        while folder and folder not in self._implied:
            self._implied.add(folder)
            self._implied_bytes += len(folder)
            above, _, name = folder.rpartition(b"/")
            self._sorter.imply(above, name, layer)
            folder = above

    def _entry(
        self, member: Member, folder: bytes, name: bytes, source: Stretch | Expanded
    ) -> Entry | None:
        if member.kind == "1":
            return self._linked(member, name)
        kind = _KINDS.get(member.kind)
        if kind is None:
            self.unseen.append((joined(folder, name), f"member type {member.kind!r} is not known"))
            return None
        xattrs, acl, default = self._attributes(member)
        digest, unread = None, ""
        if kind == FILE and self._rules.of_path(folder, name, kind).mode is not Mode.METADATA:
            digest, unread = self._digest(member, source)
            if unread:
                self.unseen.append((joined(folder, name), unread))
        return Entry(
            name, kind, member.mode & 0o7777, member.uid, member.gid,
            size=member.size if kind == FILE else None,
            device=_device(member.header) if kind in (CHAR, BLOCK) else None,
            target=os.fsencode(member.target) if kind == LINK else None,
            xattrs=xattrs, acl=acl, default_acl=default, digest=digest, mtime=_modified(member),
            unread=unread,
        )  # fmt: skip

    def _linked(self, member: Member, name: bytes) -> Entry | None:
        """Another name of a file that came before."""
        target = inside(member.target)
        target = resolve_parent(target, self._links) if target else target
        folder, _, last = os.fsencode(target or "").rpartition(b"/")
        found = self._sorter.get(folder, last)
        if found is None:
            self.unseen.append((name, "a hard link to nothing"))
            return None
        return Entry(name, *(getattr(found, field) for field in Entry.__struct_fields__[1:]))

    def _digest(self, member: Member, source: Stretch | Expanded) -> tuple[bytes | None, str]:
        if member.size != member.stored:
            return None, "a sparse member of an archive is not read"
        state = self._make(memoryview(b""))
        left = member.stored
        while left > 0:
            data = source.read(min(left, PIECE))
            if not data:
                raise InputError("the archive is cut short", where=source.name,
                                 remedy="is the file whole? fetch it again")  # fmt: skip
            state.update(memoryview(data))
            left -= len(data)
        self.bytes += member.stored
        self.files += 1
        return state.digest(), ""

    def _attributes(self, member: Member) -> tuple[Xattrs | None, bytes | None, bytes | None]:
        values = {
            key[len(_XATTR) :]: value
            for key, value in member.extended.items()
            if key.startswith(_XATTR)
        }
        for key, name in _ACLS.items():
            if key in member.extended and name not in values:
                values[name] = acl_bytes(member.extended[key].decode("utf-8", "replace")) or b""
        if _SELINUX in member.extended:
            values[b"security.selinux"] = member.extended[_SELINUX]
        if not values and not self._image:
            return None, None, None
        acl, default = values.pop(ACCESS_ACL, b""), values.pop(DEFAULT_ACL, b"")
        return kept(values), acl, default


def _modified(member: Member) -> int | None:
    """Nanoseconds since 1970: the pax record, or the header's whole seconds. None where they
    make no sense or are more than a baseline holds (the year 2262)."""
    text = member.extended.get(b"mtime")
    if text is None:
        found = _octal(member.header[136:148])
        moment = None if found is None else found * 10**9
    else:
        moment = _nanoseconds(text)
    return moment if moment is not None and abs(moment) < 2**63 else None


def _nanoseconds(text: bytes) -> int | None:
    """Decimal seconds of a pax record; None where they are none."""
    whole, _, part = text.partition(b".")
    try:
        return int(whole) * 10**9 + int(part[:9].ljust(9, b"0") or b"0")
    except ValueError:
        return None


def _device(header: bytes) -> int | None:
    """The device's number; None where Linux has no such (12 and 20 bits, linux/kdev_t.h)."""
    major, minor = _octal(header[329:337]), _octal(header[337:345])
    if major is None or minor is None or major >> 12 or minor >> 20:
        return None
    return os.makedev(major, minor)


def _octal(field: bytes) -> int | None:
    """A number of a header; None where it makes no sense."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return None
