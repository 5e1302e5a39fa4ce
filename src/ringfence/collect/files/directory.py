"""A file tree as a directory: read without following a link, opening a device or leaving it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path

import msgspec

from ringfence.collect.files.census import Census, capability_text
from ringfence.collect.files.elf import read_elf
from ringfence.collect.files.filebytes import of_file
from ringfence.collect.files.packages import (
    MOST_BYTES,
    MOST_HELD,
    OS_RELEASE,
    TOO_LARGE,
    is_database,
    is_unread_database,
)
from ringfence.errors import InputError
from ringfence.model.evidence import Evidence, Grade, Unseen
from ringfence.model.files import Elf, File, FileKind, Tree

PROGRAM_FOLDERS = (
    "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "usr/libexec", "usr/lib/openssh",
    "usr/lib/dbus-1.0", "usr/lib/policykit-1", "usr/lib/polkit-1", "opt/bin", "bin", "sbin",
)  # fmt: skip

_KINDS = {
    stat.S_IFREG: FileKind.REGULAR,
    stat.S_IFDIR: FileKind.DIRECTORY,
    stat.S_IFLNK: FileKind.SYMLINK,
    stat.S_IFBLK: FileKind.DEVICE,
    stat.S_IFCHR: FileKind.DEVICE,
    stat.S_IFIFO: FileKind.FIFO,
    stat.S_IFSOCK: FileKind.SOCKET,
}


def read_directory(
    root: Path, *, with_elf: bool = True, max_files: int | None = None, mounts: Iterable[str] = ()
) -> Tree:
    """The tree below `root`, on its own file system and those mounted at `mounts` (absolute paths
    within it). Raises InputError when it cannot be opened.

    `max_files` ends the reading early; the tree is then not `complete`, and says so.
    """
    reader = _Reader(str(root), with_elf, max_files)
    return reader.tree(Census(reader.walk("", *(path.strip("/") for path in mounts))))


def read_programs(root: Path) -> Tree:
    """The folders of programs alone: what anyone on a system can run, quickly."""
    reader = _Reader(str(root), False, None)
    files: list[File] = []
    for folder in PROGRAM_FOLDERS:
        if os.path.islink(f"{root}/{folder}") or not os.path.isdir(f"{root}/{folder}"):
            continue
        files += [file for file in reader.listed(folder) if file.kind is not FileKind.DIRECTORY]
    return reader.programs_only(Census(files))


class _Reader:
    """One walk: what it may do, and what it was refused."""

    def __init__(self, root: str, with_elf: bool, most: int | None) -> None:
        self.root = root.rstrip("/")
        self.with_elf = with_elf
        self.most = most
        self.bodies: dict[str, bytes] = {}
        self.held = 0
        self.refused: dict[str, tuple[str, int]] = {}
        self.complete = True
        self.cut = False
        """Whether the limit of files was reached."""
        self.inodes: set[tuple[int, int]] = set()
        try:
            self.device = os.stat(self.root + "/").st_dev
        except OSError as error:
            raise InputError(f"cannot be opened: {error.strerror}", where=root) from None

    def walk(self, folder: str, *mounts: str) -> Iterator[File]:
        """Every file below `folder`, folders before what is in them; then, with what is on their
        own file systems, those of `mounts` that were not passed."""
        left, count = {folder: None, **dict.fromkeys(sorted(mounts))}, 0
        while left:
            stack = [next(iter(left))]
            if not self._enter(stack[0]):
                del left[stack.pop()]
            while stack:
                place = stack.pop()
                left.pop(place, None)
                for file in self.listed(place):
                    count += 1
                    if self.most is not None and count > self.most:
                        self.complete, self.cut = False, True
                        return
                    if file.kind is FileKind.DIRECTORY:
                        stack.append(file.path)
                    yield file

    def _enter(self, folder: str) -> bool:
        """Go to the file system that a folder is on; False where it is none."""
        try:
            info = os.lstat(f"{self.root}/{folder}")
        except OSError as error:
            self._refuse(error, folder)
            return False
        self.device = info.st_dev
        return stat.S_ISDIR(info.st_mode)

    def listed(self, folder: str) -> Iterator[File]:
        """The files of one folder; folders of other file systems are left out."""
        try:
            with os.scandir(f"{self.root}/{folder}") as entries:
                found = list(entries)
        except OSError as error:
            self._refuse(error, folder)
            return
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            try:
                file = self._file(path, entry.stat(follow_symlinks=False))
            except OSError as error:
                self._refuse(error, path)
                continue
            if file is not None:
                yield file

    def _refuse(self, error: OSError, path: str) -> None:
        if error.errno not in (errno.ENOENT, errno.ESTALE):  # those are gone since
            self.complete = False
        self._note(os.strerror(error.errno or 0).lower(), path)

    def _note(self, why: str, path: str) -> None:
        first, number = self.refused.get(why, (path, 0))
        self.refused[why] = (first, number + 1)

    def _file(self, path: str, info: os.stat_result) -> File | None:
        kind = _KINDS.get(stat.S_IFMT(info.st_mode))
        if kind is None or (kind is FileKind.DIRECTORY and info.st_dev != self.device):
            return None
        size = info.st_size if kind is FileKind.REGULAR else 0
        if info.st_nlink > 1 and kind is FileKind.REGULAR:
            # A file with several names has its bytes once.
            key = (info.st_dev, info.st_ino)
            size = 0 if key in self.inodes else size
            self.inodes.add(key)
        target = ""
        if kind is FileKind.SYMLINK:
            target = os.readlink(f"{self.root}/{path}")
        file = File(path, kind, info.st_mode & 0o7777, info.st_uid, info.st_gid, size, target)
        return self._looked_into(file, info) if kind is FileKind.REGULAR else file

    def _looked_into(self, file: File, info: os.stat_result) -> File:
        full = f"{self.root}/{file.path}"
        if file.mode & 0o111:
            file = msgspec.structs.replace(file, capabilities=_capabilities(full))
        if is_database(file.path) or file.path in OS_RELEASE:
            self._keep(file.path, min(info.st_size, MOST_BYTES))
        elif is_unread_database(file.path):
            self.refused.setdefault("rpm databases are not read", (file.path, 1))
        elif self.with_elf and info.st_size >= 52:
            elf = self._elf(full)
            if elf is not None:
                file = msgspec.structs.replace(file, elf=elf)
        return file

    def _keep(self, path: str, size: int) -> None:
        """Read a package database, where those that are held leave room for it."""
        if self.held + size > MOST_HELD:
            self._note(TOO_LARGE, path)
            return
        self.held += size
        self.bodies[path] = self._head(f"{self.root}/{path}", size)

    def _head(self, path: str, size: int) -> bytes:
        """The first bytes of a plain file; never waits on a FIFO, never follows a link."""
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return b""
            parts = []
            while size > 0 and (part := os.read(handle, min(size, 1 << 20))):
                parts.append(part)
                size -= len(part)
            return b"".join(parts)
        finally:
            os.close(handle)

    def _elf(self, path: str) -> Elf | None:
        """The file's ELF facts, read where it lies: only its headers are read."""
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with FileIO(handle) as file:
            return read_elf(of_file(file)) if stat.S_ISREG(os.fstat(handle).st_mode) else None

    def _unseen(self) -> list[Unseen]:
        return [
            Unseen(f"{number} file(s) below {self.root or '/'}, the first {path[:200]!r}", why)
            for why, (path, number) in self.refused.items()
        ]

    def tree(self, counted: Census) -> Tree:
        """The census of a whole walk."""
        detail = f"the first {self.most} files alone" if self.cut else ""
        evidence = Evidence(Grade.OBSERVED, self.root or "/", detail)
        unseen = self._unseen()
        if self.cut:
            unseen.append(Unseen(f"files below {self.root} after the first {self.most}", "limit"))
        return counted.tree(
            self.bodies, evidence, unseen, complete=self.complete, with_elf=self.with_elf
        )

    def programs_only(self, counted: Census) -> Tree:
        """The census of program folders: present programs are a fact, absent ones are not."""
        evidence = Evidence(Grade.OBSERVED, self.root or "/", "folders of programs")
        missed = Unseen(
            "setuid programs outside the folders of programs",
            "a process is measured quickly; `ringfence measure host` reads every file",
        )
        tree = counted.tree({}, evidence, [*self._unseen(), missed], complete=False, with_elf=False)
        # What is not a matter of these folders was not looked for.
        counts = msgspec.structs.replace(
            tree.counts, files=None, bytes=None, libraries=None, packages=None
        )
        return msgspec.structs.replace(tree, counts=counts)


def _capabilities(path: str) -> str:
    try:
        return capability_text(os.getxattr(path, "security.capability", follow_symlinks=False))
    except OSError:
        return ""
