"""Whether an opened file may run: asked of the descriptor that the kernel gave with the event.

A decision is kept under what the file is: its path, device, inode, generation, size and ctime,
which every change of content sets. Three things make that safe:
- code that somebody holds open for writing is refused, as ETXTBSY refuses to execute it: its
  content, or a mapping of it, could change after the decision. A read lease (fcntl(2)) tells;
  Of an overlay's files the one below is asked (`layers`);
- so code on the protected mount cannot be opened for writing either;
- a decision is not kept while ctime is so young that a second change could leave it the same, nor
  where the file system has no leases.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import threading
import time

import msgspec

from ringfence.watch.baseline.digests import Digester, Shortened
from ringfence.watch.live.allowed import Allowed
from ringfence.watch.live.code import HEAD, looks_like_code
from ringfence.watch.live.deep import long_path
from ringfence.watch.live.layers import UNTOLD, Layers, is_overlay
from ringfence.watch.live.loading import by_loader
from ringfence.watch.live.naming import Names

GETVERSION = 0x80087601
"""FS_IOC_GETVERSION of include/uapi/linux/fs.h: the inode's generation."""
YOUNG = 100_000_000
"""Nanoseconds: more than any tick of the clock that ctime is taken from."""
OTHERS = stat.S_IWGRP | stat.S_IWOTH
MOST_KEPT = 1 << 17
MOST_FOREIGN = 1 << 30
"""Bytes of a file that is digested though it would be refused: anybody can make one of 8 EiB."""
OUTSIDE = "it is not in the target"
WRITTEN = "somebody holds it open for writing"
LOADED = "the loader opens it, and others than root may write to it"
AWAKE = "who opens it was not told in time"
UNKNOWN = "not in the baseline"
OTHER = "not the baseline's content"
DEEP = "its path is longer than 4,095 bytes"
DELETED = b" (deleted)"
Identity = tuple[bytes, int, int, int, int, int]


class Ruling(msgspec.Struct, frozen=True):
    """A decision: `why` is '' where it is allowed. `path` and `digest` are what was looked at.
    `later`: the thread that asks does not sleep yet; once it does there may be another."""

    allowed: bool
    why: str = ""
    digest: bytes = b""
    path: bytes = b""
    later: bool = False


class Question(msgspec.Struct, frozen=True):
    """A file that is about to be executed or opened: `fd` and `thread` are the event's, `path` is
    from the root of the target (None where it is not in it), `identity` what a decision is kept
    under."""

    fd: int
    thread: int
    executed: bool
    path: bytes | None
    shown: bytes
    info: os.stat_result
    identity: Identity
    deep: bool = False
    """Whether its path is longer than the system calls take, and it can be in no baseline."""

    @property
    def place(self) -> bytes:
        """Its path as it is told."""
        return self.shown if self.path is None else self.path


def question(fd: int, thread: int, names: Names, *, executed: bool) -> Question:
    """What an event's descriptor asks. Raises OSError."""
    info = os.fstat(fd)
    try:
        shown, deep = os.readlink(b"/proc/self/fd/%d" % fd), False
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        shown, deep = long_path(fd), True
    path = names.path(fd, shown, info)
    name = shown if path is None else path
    identity = (name, info.st_dev, info.st_ino, info.st_ctime_ns, info.st_size, _generation(fd))
    return Question(fd, thread, executed, path, shown, info, identity, deep)


def is_data(asked: Question) -> bool:
    """Whether it is opened, and does not look like code. An empty file holds none yet."""
    if asked.executed:
        return False
    if asked.info.st_size == 0:
        return True
    return not looks_like_code(os.pread(asked.fd, HEAD, 0), asked.info.st_mode, asked.shown)


def loaded(asked: Question) -> Ruling | None:
    """The decision about data where somebody can write to it now, or others than root could open
    it for that: what the dynamic loader opens may be a library by the time that it is read. None
    where it is nobody's but root's."""
    if not may_write(asked.info) and not written(asked.fd):
        return None
    ruling = _by_who(asked, LOADED)
    if ruling.allowed or ruling.later or not written(asked.fd):
        return ruling
    return msgspec.structs.replace(ruling, why=WRITTEN)


def may_write(info: os.stat_result) -> bool:
    """Whether others than root may open a file for writing that could come to hold code. A list of
    access rights shows in the group's bits. Pure."""
    kind = stat.S_IFMT(info.st_mode)
    return kind in (stat.S_IFREG, stat.S_IFBLK) and bool(info.st_uid or info.st_mode & OTHERS)


def _by_who(asked: Question, why: str) -> Ruling:
    """Denied to the loader for a reason, allowed to others."""
    loads = by_loader(asked.thread)
    if loads is None:
        return Ruling(False, AWAKE, path=asked.place, later=True)
    return Ruling(False, why, path=asked.place) if loads else Ruling(True)


class Rulings:
    """Decides by a table; keeps what it decided. `digests`: of all code, also of what is refused
    whatever its content is. Threads may share one."""

    def __init__(self, allowed: Allowed, layers: Layers, *, digests: bool = False) -> None:
        self._allowed, self._layers = allowed, layers
        self._digests = digests
        self._threads = threading.local()
        self._kept: dict[Identity, Ruling] = {}

    def quick(self, asked: Question) -> Ruling | None:
        """A decision that needs no reading of the file; None where it does. Waits for nothing."""
        if is_data(asked):
            return loaded(asked) or self._loaded_mapped(asked) or Ruling(True)
        if written(asked.fd):
            return Ruling(False, WRITTEN, path=asked.place)
        kept = self._kept.get(asked.identity)
        return kept if kept is not None or self._digests else self._refused(asked)

    def full(self, asked: Question) -> Ruling:
        """A decision by the file's content. Raises OSError."""
        ruling = self._decided(asked)
        held = written(asked.fd)
        below = self._held_below(asked) if ruling.allowed and not held else False
        after = os.fstat(asked.fd)
        if held or below or (after.st_ctime_ns, after.st_size) != (
            asked.info.st_ctime_ns, asked.info.st_size,
        ):  # fmt: skip
            return Ruling(False, WRITTEN, path=asked.place)
        if below is None:
            return Ruling(False, UNTOLD, ruling.digest, ruling.path)
        if held is not None and time.time_ns() - after.st_ctime_ns > YOUNG:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[asked.identity] = ruling
        return ruling

    def _loaded_mapped(self, asked: Question) -> Ruling | None:
        """As `loaded` of an overlay's file, of whose mappings only the one below tells."""
        if asked.info.st_ctime_ns < self._layers.since or not is_overlay(asked.fd):
            return None
        ruling = _by_who(asked, WRITTEN)
        if not ruling.allowed and not ruling.later and self._held_below(asked) is False:
            return None
        return ruling

    def _held_below(self, asked: Question) -> bool | None:
        """Of a file of an overlay: see `Layers.held`."""
        return is_overlay(asked.fd) and self._layers.held(asked.path or b"", asked.info)

    def _decided(self, asked: Question) -> Ruling:
        refused = self._refused(asked)
        if refused is not None and (
            not self._digests or asked.deep or asked.info.st_size > MOST_FOREIGN
        ):
            return refused
        digest = self._digest(asked)
        if refused is not None:
            return msgspec.structs.replace(refused, digest=digest)
        wanted = self._allowed.wanted(asked.path or b"")
        if wanted is None or wanted.digest != digest:
            return Ruling(False, OTHER, digest, asked.place)
        return Ruling(True, "", digest, asked.place)

    def _refused(self, asked: Question) -> Ruling | None:
        """The decision of what may not run whatever its content is, None of what has to be read:
        anybody can make files that take hours to read."""
        if asked.deep:
            return Ruling(False, DEEP, path=asked.place)
        if asked.path is None:
            return Ruling(False, OUTSIDE, path=asked.place)
        wanted = self._allowed.wanted(asked.path)
        if wanted is None:
            gone = "deleted, or " if asked.shown.endswith(DELETED) else ""
            return Ruling(False, gone + UNKNOWN, path=asked.place)
        same_size = wanted.size is None or wanted.size == asked.info.st_size
        if not same_size or not stat.S_ISREG(asked.info.st_mode):
            return Ruling(False, OTHER, path=asked.place)
        return None

    def _digest(self, asked: Question) -> bytes:
        digester = getattr(self._threads, "digester", None)
        if digester is None:
            digester = self._threads.digester = Digester(self._allowed.algorithm)
        try:
            os.lseek(asked.fd, 0, os.SEEK_SET)
            return digester.whole(asked.fd, asked.info.st_size)
        except Shortened:
            return b""


def written(fd: int) -> bool | None:
    """Whether anybody holds the file open for writing; None where the file system cannot tell.

    A lease for reading is refused with EAGAIN then (fcntl(2)).
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _generation(fd: int) -> int:
    try:
        return int(struct.unpack("=I", fcntl.ioctl(fd, GETVERSION, b"\0" * 8)[:4])[0])
    except OSError:  # tmpfs and others do not tell
        return 0
