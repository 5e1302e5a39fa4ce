"""Writes the file of a baseline (`store` has its format): all of it, sealed, or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from types import TracebackType

import msgspec

from ringfence.errors import InputError
from ringfence.watch.baseline.seal import Signer
from ringfence.watch.baseline.store import MAGIC, PIECE, Header, Totals
from ringfence.watch.whole import sync_folder

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Writer:
    """Writes a baseline beside `path` and puts it there when it is sealed; a context manager."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self._digest = hashlib.sha256()
        _check_place(path)
        self.temporary = path.parent / f".{path.name[:64]}.{os.urandom(8).hex()}"
        try:
            handle = os.open(self.temporary, _NEW, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from None
        self._file = os.fdopen(handle, "wb", buffering=PIECE)
        self._write(MAGIC)
        self._record(msgspec.msgpack.encode(header))

    def add_all(self, frames: list[bytes]) -> None:
        """Append frames that `Packer` made."""
        for frame in frames:
            self._record(frame)

    def seal(self, totals: Totals, signer: Signer) -> None:
        """Sign everything, write it through to the disk, and move it to its place."""
        self._record(b"")
        self._record(msgspec.msgpack.encode(totals))
        try:
            self._file.write(signer.public + signer.seal(self._digest.digest()))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self.temporary.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def _record(self, data: bytes) -> None:
        self._write(len(data).to_bytes(4, "little") + data)

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        with contextlib.suppress(OSError):
            self._file.close()  # a full disk; the error that matters was raised by write or seal
        self.temporary.unlink(missing_ok=True)


def _check_place(path: Path) -> None:
    """Raise InputError for what a rename would put a file in place of though it is none: a device,
    a FIFO, a folder. A symlink itself is replaced, never what it leads to."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise InputError("is there and is no file", where=str(path), remedy="name another place")


def _unwritable(path: Path, error: OSError) -> InputError:
    why = os.strerror(error.errno or 0).lower()
    return InputError(f"cannot be written: {why}", where=str(path))
