"""The end of a ledger on disk: the newest segment file, where lines are added under a lock.

Several processes may write to one ledger: each takes the lock for one commit, and first follows
what others have added. Under the lock nobody else writes, so whatever lies behind the last signed
head then was torn off in mid-write, was never acknowledged, and is cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ringfence.errors import InputError
from ringfence.watch.ledger.chain import Broken, Chain
from ringfence.watch.ledger.record import MOST_LINE, Head, NotALine, Opening, Record, decode
from ringfence.watch.ledger.segments import (
    LOCK,
    name_of,
    numbers,
    open_regular,
    read_lines,
    take_lock,
    unreadable,
)
from ringfence.watch.whole import make_folder, sync_folder, write_all

MOST_TORN = MOST_LINE << 10
"""Bytes that a writer can leave behind the last head, and so many that are looked through."""
KEEP = "keep it as evidence (`ringfence watch log --verify` says more), and begin a new one"


class NotWritten(InputError):
    """Records could not be made durable; the ledger holds none of them, and is whole."""


class Cut(msgspec.Struct, frozen=True):
    """What was torn off: whole records, and all bytes behind the last head."""

    records: int
    bytes: int


class Tail:
    """The newest segment of the ledger in `folder`. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder, and those that lead to it, if there is none. Raises InputError."""
        self.folder = folder
        self.offset = 0
        """Everything before it is durable, and ends with a signed head."""
        self._handle = -1
        self._path = folder
        self._broken = ""
        """Why nothing may be added any more: whoever signs on would sign what somebody else
        wrote."""
        try:
            make_folder(folder)
            self._lock = open_regular(folder / LOCK, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise unreadable(folder, error) from None

    def close(self) -> None:
        """Let go of the files."""
        self.forget()
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """While this lasts nobody else writes. Raises InputError after LONGEST_WAIT."""
        if not take_lock(self._lock, fcntl.LOCK_EX):
            raise NotWritten("another writer holds the ledger's lock",
                             where=str(self.folder), remedy="end it")  # fmt: skip
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def catch_up(self, chain: Chain) -> Cut | None:
        """Follow what was added since; cut off what is torn. Under the lock.

        Raises InputError when the ledger was altered, shortened or replaced, from then on each
        time; `chain` is then where it was.
        """
        if self._broken:
            raise self._refused()
        trial, held, offset = chain.copy(), self._handle, self.offset
        try:
            cut = self._catch_up(trial)
        except Broken as error:
            self._broken = str(error)
            raise self._refused() from None
        except (OSError, InputError) as error:
            if self._handle == held:
                self.offset = offset
            else:
                self._broken = "it could not be read to its end"
            raise (unreadable(self._path, error) if isinstance(error, OSError) else error) from None
        _take_over(chain, trial)
        return cut

    def _refused(self) -> InputError:
        return InputError(self._broken, where=str(self._path), remedy=KEEP)

    def _catch_up(self, chain: Chain) -> Cut | None:
        newest = max(numbers(self.folder), default=0)
        fresh = self._handle < 0
        if fresh and not self._open(newest):
            return None
        before = chain.head
        while True:
            cut = self._follow(chain)
            if chain.number < 0:
                raise Broken("the opening of the segment is missing")
            if fresh and chain.number != newest:
                raise Broken(f"segment {newest} says it is {chain.number}: renamed or altered")
            fresh = False
            if not self._open(chain.number + 1):
                break
            if cut is not None:
                raise Broken(f"segment {chain.number} goes on behind its last head")
        if chain.opened or chain.head != before:
            chain.check_head()
        if cut is not None:
            self._shorten()
        return cut

    def _open(self, number: int) -> bool:
        path = self.folder / name_of(number)
        try:
            handle = open_regular(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return False
        self.forget()
        self._handle, self._path = handle, path
        return True

    def _follow(self, chain: Chain) -> Cut | None:
        """Take over every batch up to the last head; what is behind it, if anything."""
        mine, there = os.fstat(self._handle), os.lstat(self._path)
        if (mine.st_ino, mine.st_dev) != (there.st_ino, there.st_dev):
            raise Broken("the file was replaced while in use")
        if mine.st_size < self.offset:
            raise Broken(f"shortened from {self.offset} to {mine.st_size} bytes while in use: "
                         f"acknowledged records before {chain.tree.size} are gone")  # fmt: skip
        trial, position, records = chain.copy(), self.offset, 0
        failure: Broken | None = None
        for data in read_lines(self._path, self.offset, mine.st_size):
            position += len(data)
            line = _line(data)
            if failure is None:
                try:
                    trial.follow(data.removesuffix(b"\n"))
                except Broken as error:
                    failure = error
            elif position - self.offset > MOST_TORN:
                raise failure
            if isinstance(line, Record):
                records += 1
            elif line is not None and failure is not None:
                # A head behind it: this was once whole, so it is no torn write.
                raise failure
            elif line is not None:
                _take_over(chain, trial)
                self.offset, records = position, 0
        torn = mine.st_size - self.offset
        return Cut(records, torn) if torn else None

    def add(self, data: bytes, number: int | None = None) -> None:
        """Append whole lines, or begin segment `number` with them, and make them durable. Under
        the lock. Raises NotWritten: nothing is added then."""
        path = self._path if number is None else self.folder / name_of(number)
        try:
            if number is None:
                self._append(data)
            else:
                self._begin(path, data)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise NotWritten(
                f"record not written: {reason}",
                where=str(path),
                remedy="make room; the ledger is whole, append again",
            ) from None
        self.offset += len(data)

    def _append(self, data: bytes) -> None:
        try:
            write_all(self._handle, data)
            os.fdatasync(self._handle)
        except OSError:
            with contextlib.suppress(OSError):
                self._shorten()
            raise

    def _begin(self, path: Path, data: bytes) -> None:
        """A new segment, there whole or not at all."""
        part = path.with_name(f".{path.name}.part")
        part.unlink(missing_ok=True)
        handle = open_regular(part, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        try:
            write_all(handle, data)
            os.fsync(handle)
            part.rename(path)
            sync_folder(self.folder)
        except OSError:
            os.close(handle)
            part.unlink(missing_ok=True)
            raise
        self.forget()
        self._handle, self._path = handle, path

    def forget(self) -> None:
        """Let go of the segment: the next `catch_up` begins with the newest there is."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self.offset = -1, 0

    def _shorten(self) -> None:
        os.ftruncate(self._handle, self.offset)
        os.fsync(self._handle)


def _line(data: bytes) -> Record | Head | Opening | None:
    """The line if it is whole."""
    if not data.endswith(b"\n"):
        return None
    try:
        return decode(data[:-1])
    except NotALine:
        return None


def _take_over(chain: Chain, trial: Chain) -> None:
    for name in Chain.__slots__:
        setattr(chain, name, getattr(trial, name))
    chain.tree = trial.tree.copy()
