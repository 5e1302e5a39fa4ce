"""Unpacks a root file system or an image's layers into an empty private folder.

Input is hostile: every path is looked up by the kernel with the folder as its root (openat2 with
RESOLVE_IN_ROOT), nothing is opened through a link, devices are not made. Set-user-ID bits are,
since they count: the folder must be out of everybody else's reach.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from ringfence.collect.files.paths import MOST_HOPS, inside
from ringfence.collect.files.streams import Expanded, Stretch
from ringfence.collect.files.tar import Member, members
from ringfence.errors import InputError

SYS_OPENAT2 = 437
"""The same number on every architecture (asm-generic/unistd.h)."""
RESOLVE_IN_ROOT = 0x10
UNCHANGED = 0xFFFFFFFF
"""What chown(2) takes for the owner that the file has: ours, root."""
MOST_UNPACKED = 32 << 30
MOST_DEPTH = 256
"""Folders above a file: what removes the tree again steps into each."""
PIECE = 1 << 20
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_inside(root: int, path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of `path` looked up with `root` (a descriptor) as its root. Raises OSError."""
    how = _How(flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT)
    name = os.fsencode(path or ".")
    found: int = _libc.syscall(SYS_OPENAT2, root, name, ctypes.byref(how), ctypes.sizeof(how))
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return found


def unpack(layers: Iterable[Stretch | Expanded], root: Path, shift: int = 0) -> None:
    """Lay layers, the lowest first, into the empty folder `root`. Raises InputError.

    `shift` is added to every owner: the range of a user namespace begins there.
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for layer in layers:
            _Layer(handle, layer, shift).lay()
    except OSError as error:
        raise InputError(
            f"cannot be unpacked: {error.strerror}", where=str(error.filename)
        ) from None
    finally:
        os.close(handle)


class _Layer:
    """One archive on its way into the folder."""

    def __init__(self, root: int, source: Stretch | Expanded, shift: int) -> None:
        self.root = root
        self.shift = shift
        self.source = source
        self.bytes = 0
        self.made: set[str] = set()

    def lay(self) -> None:
        for member in members(self.source):
            path = inside(member.path)
            if path is None:
                raise InputError("climbs out of the root", where=member.path[:200])
            if path.count("/") > MOST_DEPTH:
                raise InputError(f"is more than {MOST_DEPTH} folders deep", where=path[:200])
            if path:
                self._member(member, path)

    def _member(self, member: Member, path: str) -> None:
        folder, _, name = path.rpartition("/")
        parent = self._folder(folder)
        try:
            if name == OPAQUE:
                self._clear(parent, folder)
            elif name.startswith(WHITEOUT):
                _remove(parent, name.removeprefix(WHITEOUT))
            else:
                self._make(member, parent, name)
                self.made.add(path)
        finally:
            os.close(parent)

    def _folder(self, path: str, hops: int = 0) -> int:
        """A folder, made where it is missing; also where a link to it dangles. `hops` are the
        links that led here."""
        if hops > MOST_HOPS:
            raise InputError("links that lead in a circle", where=path[:200])
        with contextlib.suppress(FileNotFoundError):
            return open_inside(self.root, path, os.O_PATH | os.O_DIRECTORY)
        above = ""
        parent = open_inside(self.root, above, os.O_PATH | os.O_DIRECTORY)
        for name in path.split("/"):
            try:
                inner = self._step(parent, above, name, hops)
            finally:
                os.close(parent)
            parent, above = inner, f"{above}/{name}" if above else name
        return parent

    def _step(self, parent: int, above: str, name: str, hops: int) -> int:
        """The folder `name` in `parent`, whose path is `above`."""
        path = f"{above}/{name}" if above else name
        with contextlib.suppress(FileNotFoundError):
            return open_inside(self.root, path, os.O_PATH | os.O_DIRECTORY)
        try:
            os.mkdir(name, dir_fd=parent)
            os.chmod(name, 0o755, dir_fd=parent)  # noqa: S103 - whatever our umask is
        except FileExistsError:
            target = os.readlink(name, dir_fd=parent)
            base = "" if target.startswith("/") else above
            os.close(self._folder(_clipped(f"{base}/{target}"), hops + 1))
        return open_inside(self.root, path, os.O_PATH | os.O_DIRECTORY)

    def _make(self, member: Member, parent: int, name: str) -> None:
        if member.kind == "5":
            self._make_folder(member, parent, name)
            return
        if member.kind not in ("0", "1", "2"):
            return  # devices and FIFOs come from the engine, not from an archive
        _remove(parent, name)
        if member.kind == "2":
            os.symlink(member.target, name, dir_fd=parent)
        elif member.kind == "1":
            self._link(member, parent, name)
        else:
            self._write(member, parent, name)
        self._own(member, parent, name)
        if member.kind == "0":
            # chown clears these bits; the copy keeps them, so that before is what was given.
            os.chmod(name, member.mode & 0o7777, dir_fd=parent)

    def _make_folder(self, member: Member, parent: int, name: str) -> None:
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                # `lib -> usr/lib` of a lower layer stays when an upper one names `lib/`.
                if stat.S_ISLNK(found.st_mode):
                    return
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, dir_fd=parent)
        except FileNotFoundError:
            os.mkdir(name, dir_fd=parent)
        self._own(member, parent, name)
        os.chmod(name, member.mode & 0o7777, dir_fd=parent)

    def _own(self, member: Member, parent: int, name: str) -> None:
        uid, gid = member.uid + self.shift, member.gid + self.shift
        if not (0 <= uid < UNCHANGED and 0 <= gid < UNCHANGED):
            raise InputError(f"its owner {member.uid}:{member.gid} is none that a file can have",
                             where=member.path[:200])  # fmt: skip
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)

    def _link(self, member: Member, parent: int, name: str) -> None:
        target = inside(member.target)
        if target is None:
            raise InputError("a hard link that leads out of the root", where=member.path[:200])
        folder, _, last = target.rpartition("/")
        source = open_inside(self.root, folder, os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _write(self, member: Member, parent: int, name: str) -> None:
        if member.size != member.stored:
            raise InputError(
                "sparse members are not unpacked",
                where=member.path[:200],
                remedy="write the archive again without --sparse",
            )
        self.bytes += member.stored
        if self.bytes > MOST_UNPACKED:
            raise InputError(f"expands to more than {MOST_UNPACKED >> 30} GiB", where=member.path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
            left = member.stored
            while left > 0:
                part = self.source.read(min(left, PIECE))
                if not part:
                    raise InputError("the archive is cut short", where=self.source.name)
                file.write(part)
                left -= len(part)

    def _clear(self, parent: int, folder: str) -> None:
        """An opaque folder hides what lower layers put there, not what this one did."""
        inner = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=parent)
        try:
            for name in os.listdir(inner):
                if (f"{folder}/{name}" if folder else name) not in self.made:
                    _remove(parent, name)
        finally:
            os.close(inner)


def _clipped(path: str) -> str:
    """A path without dots; what climbs above the root stays there, as the kernel has it."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _remove(parent: int, name: str) -> None:
    """Remove a file, link or folder in `parent`; nothing where there is none."""
    if name in ("", ".", ".."):
        return
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        # rmtree refuses to follow links: each level is opened relative to the one above.
        shutil.rmtree(f"/proc/self/fd/{parent}/{name}")
