"""The files of a ledger's directory, read as hostile input."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ringfence.errors import InputError
from ringfence.watch.ledger.record import MOST_LINE, Head, NotALine, decode

_NAME = re.compile(r"segment-([0-9]{8})\.ledger")
LOCK = "lock"
LONGEST_WAIT = 30.0
"""Seconds to wait for a writer's commit, which takes milliseconds."""


class Segment(msgspec.Struct, frozen=True):
    """One segment file as it stood when it was looked at: `size` in bytes."""

    number: int
    path: Path
    size: int

    def lines(self) -> Iterator[bytes]:
        """Its lines with their line feeds; the last may lack one. Raises InputError."""
        return read_lines(self.path, 0, self.size)


def name_of(number: int) -> str:
    """The file name of a segment."""
    return f"segment-{number:08d}.ledger"


def segments(folder: Path) -> tuple[Segment, ...]:
    """All segments by number, as they stand between two commits of a writer. Raises InputError."""
    try:
        with _between_commits(folder):
            paths = [(number, folder / name_of(number)) for number in numbers(folder)]
            sizes = [Segment(number, path, path.lstat().st_size) for number, path in paths]
    except OSError as error:
        raise unreadable(folder, error) from None
    if not sizes:
        raise InputError("no ledger", where=str(folder), remedy="name the directory of one")
    return tuple(sizes)


def numbers(folder: Path) -> list[int]:
    """The numbers of the segments there are, in order. Raises OSError."""
    found = (_NAME.fullmatch(name) for name in os.listdir(folder))
    return sorted(int(match[1]) for match in found if match)


@contextlib.contextmanager
def _between_commits(folder: Path) -> Iterator[None]:
    """Holds the lock shared, where there is one: a copy of a ledger has none, and no writer."""
    try:
        handle = open_regular(folder / LOCK, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        if not take_lock(handle, fcntl.LOCK_SH):
            raise InputError(
                "a writer holds the ledger's lock", where=str(folder),
                remedy="end it, or copy the segments elsewhere",
            )  # fmt: skip
        yield
    finally:
        os.close(handle)


def take_lock(handle: int, how: int) -> bool:
    """Wait for a lock (flock(2)), shared or not; False after LONGEST_WAIT."""
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)
        else:
            return True


def growing(folder: Path, start: Segment, pause: float) -> Iterator[bytes]:
    """Whole lines that are added behind `start` (`covered`), for ever, once a head covers them.
    Raises InputError."""
    number, path, offset = start.number, start.path, start.size
    while True:
        now = {segment.number: segment for segment in segments(folder)}
        if number in now:
            for data in _covered(read_lines(path, offset, now[number].size)):
                offset += len(data)
                yield data
        if number + 1 in now:
            number, path, offset = number + 1, now[number + 1].path, 0
        else:
            time.sleep(pause)


def covered(segment: Segment) -> Segment:
    """The segment up to its last head: what a killed writer left behind that was never
    acknowledged, and is cut off by the next one. Raises InputError."""
    return msgspec.structs.replace(segment, size=sum(map(len, _covered(segment.lines()))))


def _covered(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines up to the last head among them."""
    waiting: list[bytes] = []
    for data in lines:
        waiting.append(data)
        with contextlib.suppress(NotALine):
            if data.endswith(b"\n") and isinstance(decode(data[:-1]), Head):
                yield from waiting
                waiting = []


def read_lines(path: Path, start: int, end: int) -> Iterator[bytes]:
    """Lines of a regular file from offset `start` on, none beyond `end`. Raises InputError.

    A line that is too long is given in pieces, none of which is a line of a ledger.
    """
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            file.seek(start)
            left = end - start
            while left > 0 and (line := file.readline(min(left, MOST_LINE))):
                left -= len(line)
                yield line
    except OSError as error:
        raise unreadable(path, error) from None


def open_regular(path: Path, flags: int) -> int:
    """A descriptor of a regular file that is no symbolic link. Raises InputError or OSError."""
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError("not a regular file", where=str(path), remedy="this is no ledger")
    return handle


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a person."""
    return InputError(os.strerror(error.errno or 0).lower(), where=str(path))
