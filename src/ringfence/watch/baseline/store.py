"""The file of a baseline: one stream of records in order, sealed at its end.

    "ringfence baseline 1\\n"
    length, header                 MessagePack, a map: the record `Header`
    length, frame ...              MessagePack, an array: last folder, last name, zstd stream
    0
    length, totals                 MessagePack, a map: the record `Totals`
    32 bytes public key, 64 bytes signature

Lengths are 4 bytes, little-endian. A frame's stream expands to a MessagePack array of groups
[folder, [entry ...]], each entry an array as in `entry.Entry`; frames and what is in them are in
the order of `entry.key`. The signature (`seal.message`) covers the SHA-256 of every byte before
the public key, and the key itself: a baseline with any bit changed is refused.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import zstandard

from ringfence.errors import InputError
from ringfence.watch.baseline.entry import Entry, Group
from ringfence.watch.baseline.rules import Rule
from ringfence.watch.baseline.seal import verified

MAGIC = b"ringfence baseline 1\n"
SEAL = 32 + 64
MOST_RECORD = 64 << 20
"""Bytes of one length-prefixed record, and of what one frame expands to."""
MOST_GROUPS = 64 << 10
"""Bytes of groups in one frame, about."""
PIECE = 1 << 20
T = TypeVar("T")
LEVEL = -1
"""Of zstd: digests do not get smaller, and the rest does so at the least effort."""


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a baseline is of. `only` are selected paths below the root; `attributes` are those
    beyond the usual ones that a check compares; `blind` are those that its source cannot tell;
    `unlisted`: files that no rule matches are not kept. `mixed`: digests are of several algorithms
    (`entry.algorithm_of`). `made` is in seconds since 1970."""

    kind: str
    name: str
    made: int
    algorithm: str
    attributes: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    only: tuple[bytes, ...] = ()
    blind: tuple[str, ...] = ()
    unlisted: bool = False
    mixed: bool = False
    version: str = ""
    notes: tuple[str, ...] = ()


class Totals(msgspec.Struct, frozen=True):
    """How many entries there are, and the bytes of content behind their digests."""

    entries: int
    size: int


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """Compressed groups, and the place of the last entry in them."""

    folder: bytes
    name: bytes
    body: bytes


_frames = msgspec.msgpack.Decoder(Frame)
_groups = msgspec.msgpack.Decoder(list[Group])


class Packer:
    """Makes frames of groups."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(level=LEVEL)
        self._encoder = msgspec.msgpack.Encoder()

    def packed(self, groups: list[Group]) -> bytes:
        """What a frame of these groups expands to."""
        return self._encoder.encode(groups)

    def frames(self, groups: list[Group]) -> Iterator[bytes]:
        """Frames of groups in order, each of about `MOST_GROUPS` bytes at most."""
        data = self.packed(groups)
        if len(data) <= MOST_GROUPS:
            if groups:
                yield self._frame(groups, data)
            return
        for lot in _lots(groups):
            yield self._frame(lot, self._encoder.encode(lot))

    def _frame(self, groups: list[Group], data: bytes) -> bytes:
        folder, entries = groups[-1]
        return self._encoder.encode(Frame(folder, entries[-1].name, self._zstd.compress(data)))


def _lots(groups: list[Group]) -> Iterator[list[Group]]:
    """The groups cut into lots of about `MOST_GROUPS` bytes at most."""
    batch: list[Group] = []
    weight = 0
    for folder, entries in groups:
        first = 0
        for place, entry in enumerate(entries):
            own = _weight(entry)
            if weight + own > MOST_GROUPS and (batch or place > first):
                yield [*batch, *_part(folder, entries[first:place])]
                batch, first, weight = [], place, 0
            weight += own
        batch += _part(folder, entries[first:])
        weight += len(folder)
    if batch:
        yield batch


def _part(folder: bytes, entries: list[Entry]) -> list[Group]:
    return [(folder, entries)] if entries else []


def _weight(entry: Entry) -> int:
    """About the bytes of an entry, encoded."""
    values = sum(len(name) + len(value) for name, value in entry.xattrs or ())
    return 160 + len(entry.name) + len(entry.target or b"") + len(entry.acl or b"") + values


def expanded(body: bytes) -> bytes:
    """What a frame's body expands to. Raises InputError."""
    try:
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=MOST_RECORD)
    except zstandard.ZstdError as error:
        raise _senseless(error) from None


def unpacked(body: bytes) -> list[Group]:
    """The groups of a frame's body. Raises InputError."""
    return groups_of(expanded(body))


def groups_of(data: bytes) -> list[Group]:
    """The groups of an expanded frame. Raises InputError."""
    try:
        return _groups.decode(data)
    except msgspec.DecodeError as error:
        raise _senseless(error) from None


def _senseless(error: Exception) -> InputError:
    return InputError(f"a frame makes no sense: {error}", where="baseline")


class Sealed:
    """A baseline whose seal was verified before anything in it was looked at.

    What is read afterwards is digested again, and `frames` refuses at its end what is no longer
    the verified bytes. Raises InputError for whatever is not to be trusted.
    """

    def __init__(self, path: Path, public: bytes) -> None:
        self.path = path
        self.public = public
        self._handle = _opened(path)
        self._at = 0
        self._reading = hashlib.sha256()
        self.totals: Totals | None = None
        try:
            self._size = os.fstat(self._handle).st_size - SEAL
            self._verified = self._verify()
            self._expect(MAGIC)
            self.header = self._decode(self._record(), Header)
        except BaseException:
            self.close()
            raise

    def _verify(self) -> bytes:
        """The digest of everything before the seal, if the seal is the expected key's."""
        if self._size < len(MAGIC) or os.pread(self._handle, len(MAGIC), 0) != MAGIC:
            raise self._refused("is no baseline of Ringfence, or has no seal")
        digest, at = hashlib.sha256(), 0
        while at < self._size:
            piece = os.pread(self._handle, min(PIECE, self._size - at), at)
            if not piece:
                raise self._refused("was shortened while it was read")
            digest.update(piece)
            at += len(piece)
        seal = os.pread(self._handle, SEAL + 1, at)
        if seal[:32] != self.public:
            raise self._refused("is not sealed by this public key, or was altered")
        if len(seal) != SEAL or not verified(digest.digest(), self.public, seal[32:]):
            raise self._refused("was altered since it was sealed")
        return digest.digest()

    def frames(self) -> Iterator[Frame]:
        """The frames in order; at their end, `totals` and the last comparison of the bytes."""
        while data := self._record():
            try:
                yield _frames.decode(data)
            except msgspec.DecodeError as error:
                raise self._refused(f"has a frame that makes no sense: {error}") from None
        self.totals = self._decode(self._record(), Totals)
        if self._at != self._size or self._reading.digest() != self._verified:
            raise self._refused("changed while it was read")

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)

    def _record(self) -> bytes:
        size = int.from_bytes(self._read(4), "little")
        if size > MOST_RECORD:
            raise self._refused(f"has a record of {size} bytes")
        return self._read(size)

    def _read(self, size: int) -> bytes:
        data = os.pread(self._handle, min(size, max(0, self._size - self._at)), self._at)
        if len(data) < size:
            raise self._refused("is cut short")
        self._at += size
        self._reading.update(data)
        return data

    def _expect(self, data: bytes) -> None:
        if self._read(len(data)) != data:
            raise self._refused("changed while it was read")

    def _decode(self, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.msgpack.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise self._refused(f"has a record that makes no sense: {error}") from None

    def _refused(self, why: str) -> InputError:
        return InputError(
            why, where=str(self.path), remedy="do not trust it: make a new one from a known state"
        )


def _opened(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise InputError(f"cannot be read: {why}", where=str(path)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError("is not a plain file", where=str(path))
    return handle
