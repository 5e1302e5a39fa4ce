"""The header of a qcow2 image as it was checked, in front of what the file holds by then.

QEMU reads the header at each boot, and a header may name further files of the host for it to open:
a backing file, a data file. So QEMU is never given the file's own start. It is given a qcow2 layer
of ours over the file's bytes whose one cluster is the checked start; the image is opened from that.
A header ends with the image's first cluster, and no cluster is larger than ours
(docs/interop/qcow2.txt in QEMU); what the tables behind it name lies in the same file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator

from ringfence.errors import InputError
from ringfence.guest.kinds import refuse_references

_BITS = 21
_CLUSTER = 1 << _BITS
_REFCOUNTS, _BLOCK, _L1, _L2, _START, _END = (number << _BITS for number in range(1, 7))
_COPIED = 1 << 63
_REFCOUNT_ORDER, _HEADER_LENGTH = 4, 104
_MOST = (_CLUSTER // 8) ** 2 << _BITS
"""Bytes that one cluster of L1 entries reaches."""
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@contextlib.contextmanager
def frozen(handle: int, where: str) -> Iterator[int]:
    """A descriptor, for reading, of the layer over an image: QEMU opens it with the image's bytes
    as its backing file. Raises InputError for an image that refers to another file."""
    start = os.pread(handle, _CLUSTER, 0)
    refuse_references(start, where)
    size = os.fstat(handle).st_size
    if size > _MOST:
        raise InputError("too large", where=where, remedy="name an image of at most 128 PiB")
    made = os.memfd_create("header", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for offset, data in layer(start, size):
            os.pwrite(made, data, offset)
        fcntl.fcntl(made, fcntl.F_ADD_SEALS, _SEALS)
        # QEMU takes a descriptor from a set only if its access mode is the one asked for.
        reading = os.open(f"/proc/self/fd/{made}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(made)
    try:
        yield reading
    finally:
        os.close(reading)


def layer(start: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """The layer's stretches, by offset, for an image of `size` bytes that begins with `start`.

    All that is not `start` is unallocated: it is the backing file's, named by nobody but us.
    """
    tables = -(-size // (_CLUSTER * (_CLUSTER // 8))) or 1
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, _BITS, size + 511 & ~511, 0, tables, _L1,
        _REFCOUNTS, 1, 0, 0, 0, 0, 0, _REFCOUNT_ORDER, _HEADER_LENGTH,
    )  # fmt: skip
    yield 0, header
    yield _REFCOUNTS, struct.pack(">Q", _BLOCK)
    yield _BLOCK, struct.pack(">H", 1) * (_END >> _BITS)
    yield _L1, struct.pack(">Q", _L2 | _COPIED)
    yield _L2, struct.pack(">Q", _START | _COPIED)
    yield _START, start.ljust(_CLUSTER, b"\0")
