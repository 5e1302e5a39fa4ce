"""Looks at one file: its attributes and its content, as one state of one inode.

Every name is first opened with O_PATH, which neither follows a symlink nor touches a device or
a FIFO (open(2)). What it is, is asked of that descriptor, and only a regular file is opened for
reading, through /proc/self/fd, so that nothing can be swapped in between. Where no device can be
opened at all (`private`), what was listed as a file or folder is opened at once, which is quicker;
it is without effect on whatever may have taken its place, and the way round is taken then. A
file that changes while it is read is read again; see `TRIES`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from ringfence.watch.baseline.digests import MOST_HOLES, PIECE, Digester, Shortened
from ringfence.watch.baseline.entry import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FILE,
    KINDS,
    LINK,
    Entry,
)
from ringfence.watch.baseline.owners import Owners
from ringfence.watch.baseline.rules import FolderRules, Mode, Rule
from ringfence.watch.baseline.xattrs import Attributes, attributes

TRIES = 3
"""Readings of a file that changes while it is read, before it is given up as unread."""
UNSTABLE = "it changes while it is read"
MOST_LINKED = 4096
FIRST = 128 << 10
"""Bytes read before a file's size is known: most have fewer, and many times as much of one that is
left to a closer look would be read for nothing."""
LARGE = 8 << 20
"""Bytes of a file that takes so long that another worker should have what comes after it."""

_EXACT, _IGNORED, _UNLISTED = Mode.EXACT, Mode.IGNORED, Mode.UNLISTED
_TYPE, _REGULAR = 0o170000, stat.S_IFREG
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_UNSEEN = _READ | os.O_NOATIME
_DIRECT = _UNSEEN | os.O_NOFOLLOW
_Identity = tuple[int, int, int, int, int, int]
Recorded = Callable[[], Entry | None]
"""What a baseline has of one file, None for nothing."""


class Looker:
    """One worker's eyes. `quick` takes a file whose status is the recorded one as unchanged.
    `mixed`: recorded digests are of several algorithms, and each file is digested as its own was.
    `owners`: of a user namespace, whose ids are told in place of this host's.
    `before_large` is called before a file of at least `LARGE` bytes is read."""

    def __init__(
        self, algorithm: str, *, quick: bool = False, mixed: bool = False,
        owners: Owners | None = None,
    ) -> None:  # fmt: skip
        self.quick = quick
        self.plain = not quick and not mixed and owners is None
        """Whether `folder` and `small` may be used, in a private view."""
        self.settled = 0
        self._owners = owners
        self.digester = Digester(algorithm)
        self._view = self.digester.view
        self._first, self._rest = [self._view[:FIRST]], [self._view[FIRST:]]
        self._digest_of = self.digester.make
        self.files_read = 0
        self.taken = 0
        self.before_large: Callable[[], None] = lambda: None
        self._proc = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._linked: dict[_Identity, bytes] = {}

    def folder(self, handle: int, name: bytes) -> Entry:
        """The folder that `handle` holds."""
        info = os.fstat(handle)
        xattrs, acl, default = attributes(handle)
        return Entry(
            name, DIRECTORY, info.st_mode & 0o7777, info.st_uid, info.st_gid, None, None, None,
            None, xattrs, acl, default, None, False, info.st_mtime_ns, info.st_ctime_ns,
            info.st_ino,
        )  # fmt: skip

    def small(self, folder: int, name: bytes) -> Entry | None:
        """A file of one piece and one name; None for everything else, also for whatever has taken
        its place meanwhile or changes while it is read: `look` is for that.

        Most files of most trees, and so in one piece: calls of our own would take longer than
        those of the kernel.
        """
        try:
            handle = os.open(name, _DIRECT, dir_fd=folder)
        except OSError:
            return None
        try:
            settled = self.settled
            before = None if settled else os.fstat(handle)
            xattrs, acl, default = attributes(handle)
            size = os.preadv(handle, self._first, 0)  # of no FIFO
            info = os.fstat(handle)
            if size == FIRST and info.st_size <= PIECE:
                size += os.preadv(handle, self._rest, FIRST)
                info = os.fstat(handle)
            mode, changed = info.st_mode, info.st_ctime_ns
            if (
                info.st_size != size or mode & _TYPE != _REGULAR or info.st_nlink != 1
                or (changed >= settled if before is None else not _same(before, info))
            ):  # fmt: skip
                return None
            self.files_read += 1
            digest = self._digest_of(self._view[:size]).digest()
            self.digester.passed += size
            return Entry(
                name, FILE, mode & 0o7777, info.st_uid, info.st_gid, size, 1, None, None, xattrs,
                acl, default, digest, False, info.st_mtime_ns, changed,
                info.st_ino,
            )  # fmt: skip
        except OSError:
            return None
        finally:
            os.close(handle)

    def look(
        self,
        folder: int,
        name: bytes,
        rules: FolderRules,
        mount: bool,
        recorded: Recorded,
    ) -> tuple[Entry, bytes, Rule] | None:
        """The file `name` in `folder`; for the folder itself '' or '.'. `recorded` is asked for
        what the baseline has of it only where that matters.

        Gives the entry, for a file that grows the digest of its first `old.size` bytes, and the
        rule for it; None where nothing is kept. Raises OSError, FileNotFoundError among them.
        """
        found = self._look(folder, name, rules, mount, recorded)
        if found is None or self._owners is None:
            return found
        if self.quick and found[0] is recorded():
            return found  # taken over, with owners as they are told
        entry, part, rule = found
        return self._owners.inside(entry), part, rule

    def _look(
        self, folder: int, name: bytes, rules: FolderRules, mount: bool, recorded: Recorded
    ) -> tuple[Entry, bytes, Rule] | None:
        handle = os.open(name or b".", _LOOK, dir_fd=folder)
        try:
            info = os.fstat(handle)
            kind = KINDS[info.st_mode & _TYPE]
            rule = rules.simple or rules.of(name, kind)
            if rule.mode is _IGNORED or rule.mode is _UNLISTED:
                return None
            old = recorded() if self.quick else None
            if old is not None and _as_before(info, kind, mount, old):
                self.taken += 1
                return old, old.digest or b"", rule
            if kind == FILE and rule.mode is not Mode.METADATA:
                entry, part = self._file(handle, name, info, mount, rule, recorded())
                return entry, part, rule
            values = attributes(f"/proc/self/fd/{handle}")
            target = os.readlink(b"", dir_fd=handle) if kind == LINK else None
            return _unread(name, kind, info, mount, values, target), b"", rule
        finally:
            os.close(handle)

    def _file(
        self, handle: int, name: bytes, info: os.stat_result, mount: bool, rule: Rule,
        old: Entry | None,
    ) -> tuple[Entry, bytes]:  # fmt: skip
        """A file of which only a descriptor of O_PATH is there."""
        try:
            file = self._open(handle)
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            values = attributes(f"/proc/self/fd/{handle}")
            return _entry(name, info, mount, values, None, False, why), b""
        try:
            return self._read(file, name, info, mount, rule, old)
        finally:
            os.close(file)

    def _open(self, handle: int) -> int:
        try:
            return os.open(str(handle), _UNSEEN, dir_fd=self._proc)
        except PermissionError:
            # O_NOATIME is for the owner and for root.
            return os.open(str(handle), _READ, dir_fd=self._proc)

    def _read(
        self, file: int, name: bytes, info: os.stat_result, mount: bool, rule: Rule,
        old: Entry | None,
    ) -> tuple[Entry, bytes]:  # fmt: skip
        """Attributes and content of an opened file, the same before and after; several times if
        need be."""
        self.files_read += 1
        if info.st_size >= LARGE:
            self.before_large()
        digest, part, sparse, unread = None, b"", False, UNSTABLE
        values: Attributes = (None, None, None)
        for turn in range(TRIES):
            if turn:
                info, digest = os.fstat(file), None
            try:
                os.lseek(file, 0, os.SEEK_SET)
                values = attributes(file)
                digest, part, sparse = self._digest(file, info, rule, old)
            except Shortened:
                continue
            except OSError as error:
                digest, unread = None, os.strerror(error.errno or 0).lower()
                break
            if _stable(info, os.fstat(file), rule):
                unread = ""
                break
        else:
            digest = None
        return _entry(name, info, mount, values, digest, sparse, unread), part

    def _digest(
        self, file: int, info: os.stat_result, rule: Rule, old: Entry | None
    ) -> tuple[bytes, bytes, bool]:
        """The digest, that of the first part where the file may grow, whether it is `nonzero`."""
        size = info.st_size
        recorded = old if old is not None and old.kind == FILE and old.size is not None else None
        before = (old.digest if old is not None else None) or b""
        self.digester.like(before)
        same = old if before and old is not None and old.size in (None, size) else None
        holes = size - info.st_blocks * 512
        if holes > MOST_HOLES if same is None else same.sparse:
            return self.digester.nonzero(file, size), b"", True
        if rule.mode is Mode.GROWS and recorded and recorded.size is not None:
            part, whole = self.digester.parted(file, min(recorded.size, size), size)
            return whole, part, False
        if info.st_nlink == 1:
            return self.digester.whole(file, size), b"", False
        identity = (
            info.st_dev, info.st_ino, size, info.st_mtime_ns, info.st_ctime_ns, len(before)
        )  # fmt: skip
        digest = self._linked.get(identity)
        if digest is None:
            digest = self.digester.whole(file, size)
            if len(self._linked) >= MOST_LINKED:
                self._linked.clear()
            self._linked[identity] = digest
        return digest, b"", False


def _entry(
    name: bytes, info: os.stat_result, mount: bool, values: Attributes, digest: bytes | None,
    sparse: bool, unread: str,
) -> Entry:  # fmt: skip
    """The entry of a regular file."""
    return Entry(
        name, FILE, info.st_mode & 0o7777, info.st_uid, info.st_gid, info.st_size,
        info.st_nlink, None, None, *values, digest, mount, info.st_mtime_ns,
        info.st_ctime_ns, info.st_ino, sparse, unread,
    )  # fmt: skip


def _unread(
    name: bytes, kind: str, info: os.stat_result, mount: bool, values: Attributes,
    target: bytes | None,
) -> Entry:  # fmt: skip
    """The entry of everything that is not to be read."""
    xattrs, acl, default = values
    return Entry(
        name, kind, info.st_mode & 0o7777, info.st_uid, info.st_gid,
        size=info.st_size if kind == FILE else None,
        links=None if kind == DIRECTORY else info.st_nlink,
        device=info.st_rdev if kind in (BLOCK, CHAR) else None,
        target=target, xattrs=xattrs, acl=acl, default_acl=default, mount=mount,
        mtime=info.st_mtime_ns, ctime=info.st_ctime_ns, inode=info.st_ino,
    )  # fmt: skip


def _stable(before: os.stat_result, after: os.stat_result, rule: Rule) -> bool:
    """Whether what was read is one state of the file; a log may be written to at its end."""
    if rule.mode is Mode.GROWS:
        return after.st_size >= before.st_size
    return _same(before, after)


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (
        before.st_ctime_ns == after.st_ctime_ns
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
    )


def _as_before(info: os.stat_result, kind: str, mount: bool, old: Entry) -> bool:
    """Whether the status alone says that nothing was touched: every change sets ctime, but for
    writes through a mapping to a page that took one already. A read lease at the baseline would
    tell of such mappings; a pass would take a seventh longer."""
    return (
        kind == old.kind
        and info.st_ctime_ns == old.ctime
        and info.st_mtime_ns == old.mtime
        and info.st_ino == old.inode
        and mount == old.mount
        and not old.unread
        and (kind != FILE or info.st_size == old.size)
    )
