"""Looks at one file: its attributes and its content, as one state of one inode.

Every name is first opened with O_PATH, which neither follows a symlink nor touches a device or
a FIFO (open(2)). What it is, is asked of that descriptor, and only a regular file is opened for
reading, through /proc/self/fd, so that nothing can be swapped in between. A file that changes
while it is read is read again; see `TRIES`.
"""

from __future__ import annotations

import errno
import hashlib
import os

from ringfence.watch.baseline.digests import MOST_HOLES, PIECE, Digester, Shortened
from ringfence.watch.baseline.entry import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FILE,
    KINDS,
    LINK,
    Entry,
    Xattrs,
)
from ringfence.watch.baseline.rules import FolderRules, Mode, Rule

TRIES = 3
"""Readings of a file that changes while it is read, before it is given up as unread."""
UNSTABLE = "it changes while it is read"
MOST_VALUE, MOST_VALUES = 4096, 16384
"""Bytes of one extended attribute, and of all of a file, that are kept; more become a digest."""
MOST_LINKED = 4096

ACCESS_ACL, DEFAULT_ACL = b"system.posix_acl_access", b"system.posix_acl_default"
_TYPE = 0o170000
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_UNSEEN = _READ | os.O_NOATIME
_Identity = tuple[int, int, int, int, int]
_Attributes = tuple[Xattrs | None, bytes | None, bytes | None]
_NOTHING: _Attributes = ((), b"", b"")


class Looker:
    """One worker's eyes. `quick` takes a file whose status is the recorded one as unchanged."""

    def __init__(self, algorithm: str, *, quick: bool = False) -> None:
        self.quick = quick
        self.digester = Digester(algorithm)
        self.files_read = 0
        self.taken = 0
        self._proc = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._linked: dict[_Identity, bytes] = {}

    def look(
        self, folder: int, name: bytes, rules: FolderRules, mount: bool, old: Entry | None
    ) -> tuple[Entry, bytes, Rule] | None:
        """The file `name` in `folder`; for the folder itself '' or '.'.

        Gives the entry, for a file that grows the digest of its first `old.size` bytes, and the
        rule for it; None where nothing is kept. Raises OSError, FileNotFoundError among them.
        """
        handle = os.open(name or b".", _LOOK, dir_fd=folder)
        try:
            info = os.fstat(handle)
            kind = KINDS[info.st_mode & _TYPE]
            rule = rules.simple or rules.of(name, kind)
            if rule.mode is Mode.IGNORED or rule.mode is Mode.UNLISTED:
                return None
            if self.quick and old is not None and _as_before(info, kind, mount, old):
                self.taken += 1
                return old, old.digest or b"", rule
            if kind == FILE and rule.mode is not Mode.METADATA:
                entry, part = self._file(handle, name, info, mount, rule, old)
                return entry, part, rule
            return self._unopened(handle, name, kind, info, mount), b"", rule
        finally:
            os.close(handle)

    def _unopened(
        self, handle: int, name: bytes, kind: str, info: os.stat_result, mount: bool
    ) -> Entry:
        """Everything but a file that is to be read: its descriptor of O_PATH tells enough."""
        xattrs, acl, default = _attributes(f"/proc/self/fd/{handle}")
        return Entry(
            name, kind, info.st_mode & 0o7777, info.st_uid, info.st_gid,
            size=info.st_size if kind == FILE else None,
            links=None if kind == DIRECTORY else info.st_nlink,
            device=info.st_rdev if kind in (BLOCK, CHAR) else None,
            target=os.readlink(b"", dir_fd=handle) if kind == LINK else None,
            xattrs=xattrs, acl=acl, default_acl=default, mount=mount,
            mtime=info.st_mtime_ns, ctime=info.st_ctime_ns, inode=info.st_ino,
        )  # fmt: skip

    def _file(
        self,
        handle: int,
        name: bytes,
        info: os.stat_result,
        mount: bool,
        rule: Rule,
        old: Entry | None,
    ) -> tuple[Entry, bytes]:
        self.files_read += 1
        digest, part, sparse, unread = None, b"", False, UNSTABLE
        values: _Attributes = (None, None, None)
        for _ in range(TRIES):
            try:
                file = self._open(handle)
            except OSError as error:
                unread = os.strerror(error.errno or 0).lower()
                values = _attributes(f"/proc/self/fd/{handle}")
                break
            try:
                values = _attributes(file)
                if info.st_size <= PIECE and info.st_nlink == 1 and rule.mode is Mode.EXACT:
                    digest = self.digester.small(file, info.st_size)
                else:
                    digest, part, sparse = self._digest(file, info, rule, old)
                after = os.fstat(file)
                if _stable(info, after, rule):
                    unread = ""
                    break
                info, digest = after, None
            except Shortened:
                info, digest = os.fstat(file), None
            except OSError as error:
                digest, unread = None, os.strerror(error.errno or 0).lower()
                break
            finally:
                os.close(file)
        entry = Entry(
            name, FILE, info.st_mode & 0o7777, info.st_uid, info.st_gid, info.st_size,
            info.st_nlink, None, None, *values, digest, mount, info.st_mtime_ns,
            info.st_ctime_ns, info.st_ino, sparse, unread,
        )  # fmt: skip
        return entry, part

    def _open(self, handle: int) -> int:
        try:
            return os.open(str(handle), _UNSEEN, dir_fd=self._proc)
        except PermissionError:
            # O_NOATIME is for the owner and for root.
            return os.open(str(handle), _READ, dir_fd=self._proc)

    def _digest(
        self, file: int, info: os.stat_result, rule: Rule, old: Entry | None
    ) -> tuple[bytes, bytes, bool]:
        """The digest, that of the first part where the file may grow, whether it is `nonzero`."""
        size = info.st_size
        recorded = old if old is not None and old.kind == FILE and old.size is not None else None
        same_size = recorded is not None and recorded.size == size and bool(recorded.digest)
        holes = size - info.st_blocks * 512
        if recorded.sparse if recorded and same_size else holes > MOST_HOLES:
            return self.digester.nonzero(file, size), b"", True
        if rule.mode is Mode.GROWS and recorded and recorded.size is not None:
            part, whole = self.digester.parted(file, min(recorded.size, size), size)
            return whole, part, False
        if info.st_nlink == 1:
            return self.digester.whole(file, size), b"", False
        identity = (info.st_dev, info.st_ino, size, info.st_mtime_ns, info.st_ctime_ns)
        digest = self._linked.get(identity)
        if digest is None:
            digest = self.digester.whole(file, size)
            if len(self._linked) >= MOST_LINKED:
                self._linked.clear()
            self._linked[identity] = digest
        return digest, b"", False


def _stable(before: os.stat_result, after: os.stat_result, rule: Rule) -> bool:
    """Whether what was read is one state of the file; a log may be written to at its end."""
    if rule.mode is Mode.GROWS:
        return after.st_size >= before.st_size
    return (
        before.st_ctime_ns == after.st_ctime_ns
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
    )


def _as_before(info: os.stat_result, kind: str, mount: bool, old: Entry) -> bool:
    """Whether the status alone says that nothing was touched: every change sets ctime."""
    return (
        kind == old.kind
        and info.st_ctime_ns == old.ctime
        and info.st_mtime_ns == old.mtime
        and info.st_ino == old.inode
        and mount == old.mount
        and not old.unread
        and (kind != FILE or info.st_size == old.size)
    )


def _attributes(place: int | str) -> _Attributes:
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
