"""Content digests of opened files: in one piece, of a first part, or of what is not zero.

A file of more than 1 GiB in holes is digested by its blocks of 64 KiB that are not all zero, each
with its place before it (8 bytes, little-endian): a terabyte of nothing then costs nothing, and
how the file is laid out on the disk makes no difference.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from ringfence.watch.baseline.entry import algorithm_of

PIECE = 1 << 20
"""Bytes read at once: it stays in the processor's second-level cache."""
BLOCK = 1 << 16
MOST_HOLES = 1 << 30


class Digest(Protocol):
    """What hashlib and blake3 give."""

    def update(self, data: memoryview, /) -> object:
        """Take more bytes."""
        ...

    def digest(self) -> bytes:
        """The digest so far."""
        ...

    def copy(self) -> Digest:
        """The state so far."""
        ...


def maker(algorithm: str) -> Callable[[memoryview], Digest]:
    """What makes a digest of some first bytes."""
    if algorithm == "blake3":
        from blake3 import blake3

        make: Callable[[memoryview], Digest] = blake3
        return make
    if algorithm in ("sha256", "sha512"):
        return hashlib.sha256 if algorithm == "sha256" else hashlib.sha512
    return partial(hashlib.new, algorithm, usedforsecurity=False)


class Shortened(Exception):
    """The file does not have the size that it had when it was opened."""


class Digester:
    """Digests files through one buffer. `passed` counts the bytes read."""

    def __init__(self, algorithm: str) -> None:
        self.make = maker(algorithm)
        self.passed = 0
        self._usual = self._chosen = algorithm
        # A mapping begins with a page, as what the kernel copies from does. Memory of malloc begins
        # 16 bytes into one, to where some processors copy at half the speed (bench.copying).
        self._buffers = [mmap.mmap(-1, PIECE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)]
        self.view = memoryview(self._buffers[0])

    def like(self, digest: bytes) -> None:
        """What comes next is digested as `digest` was, or as usual where that is b''."""
        algorithm = algorithm_of(digest, self._usual)
        if algorithm != self._chosen:
            self.make, self._chosen = maker(algorithm), algorithm

    def whole(self, handle: int, size: int) -> bytes:
        """The digest of the first `size` bytes from the handle's position. Raises Shortened."""
        if size <= PIECE:
            self._fill(handle, size)
            return self.make(self.view[:size]).digest()
        return self.parted(handle, size, size)[1]

    def parted(self, handle: int, first: int, size: int) -> tuple[bytes, bytes]:
        """The digests of the first `first` bytes and of `size`, in one reading."""
        state = self.make(self.view[:0])
        self._feed(handle, state, first)
        part = state.digest()
        if first == size:
            return part, part
        rest = state.copy()
        self._feed(handle, rest, size - first)
        return part, rest.digest()

    def nonzero(self, handle: int, size: int) -> bytes:
        """The digest of the blocks that are not all zero, each after its place."""
        state = self.make(self.view[:0])
        zero = bytes(BLOCK)
        for place in _blocks(handle, size):
            os.lseek(handle, place, os.SEEK_SET)
            length = min(BLOCK, size - place)
            self._fill(handle, length)
            if bytes(self.view[:length]) != zero[:length]:
                state.update(memoryview(place.to_bytes(8, "little")))
                state.update(self.view[:length])
        return state.digest()

    def _feed(self, handle: int, state: Digest, size: int) -> None:
        while size > 0:
            count = os.readv(handle, self._buffers) if size >= PIECE else self._some(handle, size)
            if count == 0:
                raise Shortened
            self.passed += count
            state.update(self.view[:count])
            size -= count

    def _some(self, handle: int, size: int) -> int:
        return os.readv(handle, [self.view[:size]])

    def _fill(self, handle: int, size: int) -> None:
        """`size` bytes into the buffer."""
        got = 0
        while got < size:
            count = os.readv(handle, [self.view[got:size]])
            if count == 0:
                raise Shortened
            got += count
        self.passed += size


def _blocks(handle: int, size: int) -> Iterator[int]:
    """Places of the blocks that hold data, as SEEK_DATA and SEEK_HOLE of lseek(2) tell."""
    after = 0
    while after < size:
        try:
            start = os.lseek(handle, after, os.SEEK_DATA)
            end = os.lseek(handle, start, os.SEEK_HOLE)
        except OSError:  # ENXIO: nothing but a hole to the end
            return
        if start >= size:
            return
        for place in range(max(after, start // BLOCK * BLOCK), min(end, size), BLOCK):
            yield place
            after = place + BLOCK
