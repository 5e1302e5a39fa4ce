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
import struct
import time

import msgspec

from ringfence.watch.baseline.digests import Digester, Shortened
from ringfence.watch.live.allowed import Allowed
from ringfence.watch.live.code import HEAD, looks_like_code
from ringfence.watch.live.layers import UNTOLD, Layers, is_overlay
from ringfence.watch.live.loading import by_loader
from ringfence.watch.live.naming import Names

GETVERSION = 0x80087601
"""FS_IOC_GETVERSION of include/uapi/linux/fs.h: the inode's generation."""
YOUNG = 100_000_000
"""Nanoseconds: more than any tick of the clock that ctime is taken from."""
MOST_KEPT = 1 << 17
OUTSIDE = "it is not in the target"
WRITTEN = "somebody holds it open for writing"
UNKNOWN = "not in the baseline"
OTHER = "not the baseline's content"
DELETED = b" (deleted)"
Identity = tuple[bytes, int, int, int, int, int]


class Ruling(msgspec.Struct, frozen=True):
    """A decision: `why` is '' where it is allowed. `path` and `digest` are what was looked at."""

    allowed: bool
    why: str = ""
    digest: bytes = b""
    path: bytes = b""


class Question(msgspec.Struct, frozen=True):
    """A file that is about to be executed or opened: `fd` and `pid` are the event's, `path` is from
    the root of the target (None where it is not in it), `identity` what a decision is kept under.
    """

    fd: int
    pid: int
    executed: bool
    path: bytes | None
    shown: bytes
    info: os.stat_result
    identity: Identity


def question(fd: int, pid: int, names: Names, *, executed: bool) -> Question:
    """What an event's descriptor asks. Raises OSError."""
    info = os.fstat(fd)
    shown = os.readlink(b"/proc/self/fd/%d" % fd)
    path = names.path(fd, shown, info)
    name = shown if path is None else path
    identity = (name, info.st_dev, info.st_ino, info.st_ctime_ns, info.st_size, _generation(fd))
    return Question(fd, pid, executed, path, shown, info, identity)


def is_data(asked: Question) -> bool:
    """Whether it is opened, and does not look like code. An empty file holds none yet."""
    if asked.executed:
        return False
    if asked.info.st_size == 0:
        return True
    return not looks_like_code(os.pread(asked.fd, HEAD, 0), asked.info.st_mode, asked.shown)


def loaded_unsure(asked: Question) -> bool:
    """Whether the dynamic loader opens what somebody can write to: what looks like data may be a
    library by the time that it is read."""
    return bool(written(asked.fd)) and by_loader(asked.pid)


class Rulings:
    """Decides by a table; keeps what it decided."""

    def __init__(self, allowed: Allowed, layers: Layers) -> None:
        self._allowed, self._layers = allowed, layers
        self._digester = Digester(allowed.algorithm)
        self._kept: dict[Identity, Ruling] = {}

    def quick(self, asked: Question) -> Ruling | None:
        """A decision that needs no reading of the file; None where it does."""
        if is_data(asked):
            if loaded_unsure(asked) or self._loaded_mapped(asked):
                return Ruling(False, WRITTEN, path=_place(asked))
            return Ruling(True)
        if written(asked.fd):
            return Ruling(False, WRITTEN, path=_place(asked))
        return self._kept.get(asked.identity)

    def full(self, asked: Question) -> Ruling:
        """A decision by the file's content. Raises OSError."""
        ruling = self._decided(asked)
        held = written(asked.fd)
        below = self._held_below(asked) if ruling.allowed and not held else False
        after = os.fstat(asked.fd)
        if held or below or (after.st_ctime_ns, after.st_size) != (
            asked.info.st_ctime_ns, asked.info.st_size,
        ):  # fmt: skip
            return Ruling(False, WRITTEN, path=_place(asked))
        if below is None:
            return Ruling(False, UNTOLD, ruling.digest, ruling.path)
        if held is not None and time.time_ns() - after.st_ctime_ns > YOUNG:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[asked.identity] = ruling
        return ruling

    def _loaded_mapped(self, asked: Question) -> bool:
        """The same of an overlay's file, of whose mappings only the one below tells."""
        return (
            asked.info.st_ctime_ns >= self._layers.since
            and is_overlay(asked.fd)
            and by_loader(asked.pid)
            and self._held_below(asked) is not False
        )

    def _held_below(self, asked: Question) -> bool | None:
        """Of a file of an overlay: see `Layers.held`."""
        return is_overlay(asked.fd) and self._layers.held(asked.path or b"", asked.info)

    def _decided(self, asked: Question) -> Ruling:
        place = _place(asked)
        digest = self._digest(asked)
        if asked.path is None:
            return Ruling(False, OUTSIDE, digest, place)
        wanted = self._allowed.digest(asked.path)
        if wanted is None:
            gone = "deleted, or " if asked.shown.endswith(DELETED) else ""
            return Ruling(False, gone + UNKNOWN, digest, place)
        if wanted != digest:
            return Ruling(False, OTHER, digest, place)
        return Ruling(True, "", digest, place)

    def _digest(self, asked: Question) -> bytes:
        try:
            os.lseek(asked.fd, 0, os.SEEK_SET)
            return self._digester.whole(asked.fd, asked.info.st_size)
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


def _place(asked: Question) -> bytes:
    return asked.shown if asked.path is None else asked.path


def _generation(fd: int) -> int:
    try:
        return int(struct.unpack("=I", fcntl.ioctl(fd, GETVERSION, b"\0" * 8)[:4])[0])
    except OSError:  # tmpfs and others do not tell
        return 0
