"""The file that --learn writes: what ran, for a later --learned to hold to."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

import msgspec

from ringfence.errors import InputError
from ringfence.watch.live.allowed import FORMAT, Learned, LearnedFile, read_learned

EVERY = 5.0
"""Seconds between two writings."""


class Lessons:
    """What was learned so far; a file that is there already is gone on with. Raises InputError."""

    def __init__(self, path: Path, algorithm: str) -> None:
        self._path, self._algorithm = path, algorithm
        self._files: dict[tuple[str, str, str], Learned] = {}
        self._saved, self._dirty = time.monotonic(), True
        if path.exists():
            for item in read_learned(path, algorithm):
                self.take(item)
        self.save()

    def take(self, found: Learned) -> bool:
        """Whether it is new."""
        mark = found.path, found.digest, found.how
        if mark in self._files:
            return False
        self._files[mark] = found
        self._dirty = True
        return True

    def save_now_and_then(self) -> None:
        """Write, if that was not done just now."""
        if self._dirty and time.monotonic() - self._saved >= EVERY:
            self.save()

    def save(self) -> None:
        """Write the file whole or not at all. Raises InputError."""
        if not self._dirty:
            return
        rows = [self._files[mark] for mark in sorted(self._files)]
        data = msgspec.json.encode(LearnedFile(FORMAT, self._algorithm, rows))
        try:
            _write(self._path, msgspec.json.format(data, indent=1) + b"\n")
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise InputError(f"cannot be written: {why}", where=str(self._path)) from None
        self._saved, self._dirty = time.monotonic(), False


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
