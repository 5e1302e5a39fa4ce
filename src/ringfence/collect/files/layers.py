"""A virtual file tree that layers are laid onto, with the whiteouts of the OCI image format.

https://github.com/opencontainers/image-spec/blob/main/layer.md: `.wh.NAME` removes NAME of the
layers below, `.wh..wh..opq` removes all that the layers below have in its folder; neither
touches what its own layer brings, wherever it stands in the archive.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ringfence.collect.files.accounts import ACCOUNTS
from ringfence.collect.files.census import capability_text
from ringfence.collect.files.elf import MAGIC, read_elf
from ringfence.collect.files.packages import (
    MOST_BYTES,
    MOST_HELD,
    OS_RELEASE,
    TOO_LARGE,
    is_database,
    is_unread_database,
)
from ringfence.collect.files.paths import inside, resolve_parent
from ringfence.collect.files.streams import MOST_EXPANDED, Expanded, Stretch, too_large
from ringfence.collect.files.tar import Member, members
from ringfence.errors import InputError
from ringfence.model.evidence import Unseen
from ringfence.model.files import File, FileKind

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
SHORTEST_ELF = 20
MOST_ELF = 256 << 20
"""Bytes of one compressed ELF file that are expanded for its headers."""

MOST_MEMBERS = 8_000_000
"""Of all layers: a small one that is listed a thousand times is as much work as a thousand."""

SET_ID = 0o6000
_KINDS = {
    "0": FileKind.REGULAR,
    "1": FileKind.REGULAR,
    "2": FileKind.SYMLINK,
    "3": FileKind.DEVICE,
    "4": FileKind.DEVICE,
    "5": FileKind.DIRECTORY,
    "6": FileKind.FIFO,
}


class _Layer:
    """What one layer brings and takes away, before it is laid onto those below."""

    def __init__(self, links: dict[str, str]) -> None:
        self.files: dict[str, File] = {}
        self.bodies: dict[str, bytes] = {}
        self.held = 0
        self.links = links
        self.gone: set[str] = set()
        self.emptied: set[str] = set()

    def add(self, file: File) -> None:
        self.files[file.path] = file
        if file.kind is FileKind.SYMLINK:
            self.links[file.path] = file.target
        else:
            self.links.pop(file.path, None)

    def white_out(self, path: str, name: str) -> None:
        folder = path.rpartition("/")[0]
        if name == OPAQUE:
            self.emptied.add(folder)
        else:
            hidden = name[len(WHITEOUT) :]
            self.gone.add(f"{folder}/{hidden}" if folder else hidden)

    def removes(self, path: str, replaced: set[str]) -> bool:
        """Whether this layer takes away `path` of a layer below."""
        if path in self.gone or (self.emptied and "" in self.emptied):
            return True
        parent = path.rpartition("/")[0]
        while parent:
            if parent in self.gone or parent in self.emptied or parent in replaced:
                return True
            parent = parent.rpartition("/")[0]
        return False


class Layers:
    """The merged tree: `files` by path, package databases in `bodies`, refusals in `unseen`."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.bodies: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        self._refused: dict[str, tuple[str, int]] = {}
        self._members = 0
        self._bytes = 0
        self.complete = True
        """Whether every file was taken in: of those that were not nobody knows what they are."""
        self._held = 0

    def lay(self, source: Stretch | Expanded) -> None:
        """Lay one layer (a tar archive) on top. Raises InputError when it is none, or when all
        layers together have more than MOST_MEMBERS members or MOST_EXPANDED bytes."""
        layer = _Layer(dict(self._links))
        for member in members(source):
            self._members += 1
            if self._members > MOST_MEMBERS:
                raise too_many(source.name)
            path = self._path(member.path, layer.links)
            if not path:
                continue
            name = path.rpartition("/")[2]
            if name.startswith(WHITEOUT):
                layer.white_out(path, name)
                continue
            file = self._file(member, path, source, layer)
            if file is not None:
                layer.add(file)
        if not source.at_end():
            raise InputError(
                "the archive is cut short inside a file",
                where=source.name,
                remedy="is the file whole? fetch it again",
            )
        self._bytes += source.tell()
        if self._bytes > MOST_EXPANDED:
            raise too_large(source.name)
        self._merge(layer)

    def unseen(self) -> list[Unseen]:
        """Members that were refused, one line for each reason."""
        return [
            Unseen(f"{number} file(s) of the archive, the first {name[:200]!r}", why)
            for why, (name, number) in self._refused.items()
        ]

    def _refuse(self, why: str, name: str) -> None:
        first, number = self._refused.get(why, (name, 0))
        self._refused[why] = (first, number + 1)

    def _leave_out(self, why: str, name: str) -> None:
        self.complete = False
        self._refuse(why, name)

    def _path(self, name: str, links: dict[str, str]) -> str | None:
        path = inside(name)
        if path is None:
            self._leave_out("its name leads out of the root", name)
            return None
        resolved = resolve_parent(path, links)
        if resolved is None:
            self._leave_out("its folder is a loop of symlinks", name)
        return resolved

    def _file(
        self, member: Member, path: str, source: Stretch | Expanded, layer: _Layer
    ) -> File | None:
        kind = _KINDS.get(member.kind)
        if kind is None:
            self._leave_out(f"member type {member.kind!r} is not known", member.path)
            return None
        if member.kind == "1":
            return self._hard_link(member, path, layer)
        file = File(
            path=path,
            kind=kind,
            mode=member.mode & 0o7777,
            uid=member.uid,
            gid=member.gid,
            size=member.size if kind is FileKind.REGULAR else 0,
            target=member.target if kind is FileKind.SYMLINK else "",
            capabilities=capability_text(member.capability) if member.capability else "",
        )
        if kind is not FileKind.REGULAR:
            return file
        return self._looked_into(file, member, source, layer)

    def _looked_into(
        self, file: File, member: Member, source: Stretch | Expanded, layer: _Layer
    ) -> File:
        """ELF facts and package databases, from a regular file's body."""
        if is_database(file.path) or file.path in (*OS_RELEASE, ACCOUNTS):
            self._keep(file.path, min(member.stored, MOST_BYTES), source, layer)
            return file
        if is_unread_database(file.path):
            self._refuse("rpm databases are not read", file.path)
        # A sparse file's stored bytes are not its first bytes in order: its headers are not read.
        if member.size != member.stored or member.stored < SHORTEST_ELF:
            return file
        if isinstance(source, Stretch):
            elf = read_elf(source.window(member.stored)) if source.peek(4) == MAGIC else None
        else:
            head = source.read(4)
            if head != MAGIC:
                return file
            elf = read_elf(head + source.read(min(member.stored, MOST_ELF) - 4))
        return msgspec.structs.replace(file, elf=elf) if elf is not None else file

    def _keep(self, path: str, size: int, source: Stretch | Expanded, layer: _Layer) -> None:
        """Read a package database, where those that are held leave room for it."""
        if self._held + layer.held + size > MOST_HELD:
            self._refuse(TOO_LARGE, path)
            layer.bodies.pop(path, None)
            return
        layer.held += size
        layer.bodies[path] = source.read(size)

    def _hard_link(self, member: Member, path: str, layer: _Layer) -> File | None:
        """Another name of a file: its facts, but no bytes of its own."""
        target = inside(member.target)
        original = layer.files.get(target or "") or self.files.get(target or "")
        if original is None:
            self._leave_out("a hard link to nothing", member.path)
            return None
        # One file: engines give it the link's owner and mode, under each of its names; tar(1) does
        # not. What makes it set-user-ID to either counts.
        now = original
        if member.mode & SET_ID:
            now = msgspec.structs.replace(
                original, mode=member.mode & 0o7777, uid=member.uid, gid=member.gid
            )
        if now != original:
            body = self.bodies.get(now.path)
            if now.path not in layer.files and body is not None:
                layer.bodies[now.path] = body  # of a layer below, whose file this one replaces
            layer.add(now)
        return msgspec.structs.replace(now, path=path, size=0)

    def _merge(self, layer: _Layer) -> None:
        """In one pass over the tree below, however many whiteouts there are."""
        replaced = {
            path
            for path, file in layer.files.items()
            if file.kind is not FileKind.DIRECTORY
            and path in self.files
            and self.files[path].kind is FileKind.DIRECTORY
        }
        if layer.gone or layer.emptied or replaced:
            for path in [path for path in self.files if layer.removes(path, replaced)]:
                del self.files[path]
                self.bodies.pop(path, None)
        for path in layer.files:
            self.bodies.pop(path, None)
        self.files.update(layer.files)
        self.bodies.update(layer.bodies)
        self._held = sum(map(len, self.bodies.values()))
        self._links = {
            path: file.target for path, file in self.files.items() if file.kind is FileKind.SYMLINK
        }


def too_many(name: str) -> InputError:
    """The error for layers that together have more than MOST_MEMBERS members."""
    return InputError(
        f"its layers have more than {MOST_MEMBERS:,} files together",
        where=name,
        remedy="squash it and save it again",
    )


def merged(layers: Iterable[Stretch | Expanded]) -> Layers:
    """The tree of several layers, the lowest first."""
    tree = Layers()
    for layer in layers:
        tree.lay(layer)
    return tree
