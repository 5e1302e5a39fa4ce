"""Which content each path must have to run: from a verified baseline, in 56 bytes a file."""

from __future__ import annotations

import base64
import hashlib
from bisect import bisect_left
from pathlib import Path

import msgspec

from ringfence.errors import InputError
from ringfence.untrusted import Undecodable, decode_json, regular_file
from ringfence.watch.baseline.entry import FILE, joined
from ringfence.watch.baseline.items import shown
from ringfence.watch.live.known import Known

FORMAT = "ringfence learned 1"
NAME, SIZE = 16, 8
_UNKNOWN = (1 << 64) - 1
MOST_FILE = 256 << 20


class Learned(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that ran while learning: `how` is exec or open, `known` whether the baseline has it
    with this content. `path` starts with a slash; `path_bytes` as in a report of `watch check`."""

    path: str
    digest: str
    how: str
    known: bool
    path_bytes: str | None = None

    @classmethod
    def of(cls, path: bytes, digest: bytes, how: str, *, known: bool) -> Learned:
        """From a path without a leading slash."""
        text, raw = shown(b"/" + path)
        return cls(text, digest.hex(), how, known, raw)

    def key(self) -> tuple[bytes, str]:
        """The path without a leading slash, and the digest."""
        data = base64.b64decode(self.path_bytes) if self.path_bytes else self.path.encode()
        return data.lstrip(b"/"), self.digest


class LearnedFile(msgspec.Struct, frozen=True):
    """What --learn writes."""

    format: str
    algorithm: str
    files: list[Learned]


def read_learned(path: Path, algorithm: str) -> list[Learned]:
    """The files of a learned file. Raises InputError."""
    try:
        found = decode_json(regular_file(path, MOST_FILE), LearnedFile)
        if found.format != FORMAT or found.algorithm != algorithm:
            raise InputError("was not learned with this baseline", where=str(path))
        return found.files
    except Undecodable as error:
        raise InputError(f"is no file of --learn: {error}", where=str(path)) from None


class Wanted(msgspec.Struct, frozen=True):
    """What the baseline has of a file: the digest, and its size in bytes, None where it has none (a
    database of AIDE may lack it)."""

    digest: bytes
    size: int | None


class Allowed:
    """The baseline's files with a digest; of these, with `learned`, the ones that are in it.

    Files are kept as 16 bytes of a hash of the path, 8 of the size, and the digest, sorted.
    """

    def __init__(self, known: Known, learned: list[Learned] | None = None) -> None:
        self.algorithm = known.header.algorithm
        ran = None if learned is None else {item.key() for item in learned}
        rows = []
        for folder, entries in known.groups():
            for entry in entries:
                if entry.kind != FILE or entry.digest is None or entry.sparse:
                    continue
                path = joined(folder, entry.name)
                if ran is None or (path, entry.digest.hex()) in ran:
                    size = _UNKNOWN if entry.size is None else entry.size
                    rows.append(_name(path) + size.to_bytes(SIZE) + entry.digest)
        rows.sort()
        self._size = len(rows[0]) if rows else NAME
        self._rows = b"".join(rows)
        self._count = len(rows)

    def __len__(self) -> int:
        return self._count

    def wanted(self, path: bytes) -> Wanted | None:
        """What the file at `path` must be; None: it may not run."""
        name = _name(path)
        size = self._size
        place = bisect_left(
            range(self._count), name, key=lambda at: self._rows[at * size : at * size + NAME]
        )
        row = self._rows[place * size : (place + 1) * size]
        if row[:NAME] != name:
            return None
        number = int.from_bytes(row[NAME : NAME + SIZE])
        return Wanted(row[NAME + SIZE :], None if number == _UNKNOWN else number)


def _name(path: bytes) -> bytes:
    return hashlib.blake2b(path, digest_size=NAME).digest()
