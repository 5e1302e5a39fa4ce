"""The files that the user names, opened once: plain ones only, bounded where they are copied."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ringfence.collect.guest.payload import MOST_EXPANDED, expand
from ringfence.collect.guest.source import Cut
from ringfence.errors import InputError
from ringfence.guest.kinds import HEAD, Kind, Read, kind, needs_efi, note_places, packed

_VOLUME = 16 * 2048
"""Where ISO 9660 has its first descriptor."""
MOST_KERNEL = 512 << 20
"""Bytes of a kernel or initial RAM disk: they are copied, so that QEMU's own user can read them."""


class Image(msgspec.Struct, frozen=True):
    """An image as QEMU is given it: `handle` is a descriptor that must stay open. `efi`: a disk
    that only EFI firmware can boot."""

    kind: Kind
    handle: int
    efi: bool = False


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a plain file, for reading. Raises InputError for anything else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError("no plain file", where=str(path), remedy="name an image file")
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(os.strerror(error.errno or errno.EIO).lower(), where=str(path)) from None
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def image(path: Path) -> Iterator[Image]:
    """Open an image and find out how it is started. Raises InputError."""
    with opened(path) as handle:
        read = _deciding(handle)
        stretch = packed(read.head)
        if stretch is not None:
            with _unpacked(handle, *stretch, str(path)) as (found, copy):
                yield Image(found, copy)
            return
        found = kind(read, str(path))
        if found.disk:
            yield Image(found, handle, needs_efi(read.head))
            return
        with copied(handle, str(path)) as copy:
            yield Image(found, copy, found is Kind.EFI)


@contextlib.contextmanager
def copied(handle: int, where: str) -> Iterator[int]:
    """A copy in memory, without a name, that every user may read. Raises InputError if too big."""
    if os.fstat(handle).st_size > MOST_KERNEL:
        raise InputError(
            f"larger than {MOST_KERNEL >> 20} MiB", where=where, remedy="no kernel is this big"
        )
    copy = os.memfd_create("image", os.MFD_CLOEXEC)
    try:
        at = 0
        while at <= MOST_KERNEL and (part := os.pread(handle, 1 << 20, at)):
            os.write(copy, part)
            at += len(part)
        yield copy
    finally:
        os.close(copy)


@contextlib.contextmanager
def _unpacked(handle: int, at: int, length: int, where: str) -> Iterator[tuple[Kind, int]]:
    """The kernel that a file packs, expanded into memory. Raises InputError for anything else."""
    try:
        held = min(length, os.fstat(handle).st_size - at, MOST_EXPANDED)
        _, data = expand(os.pread(handle, max(held, 0), at))
    except Cut as error:
        raise InputError(f"a broken packed kernel: {error}", where=where) from None
    found = kind(Read(data[:HEAD]), where)
    if found is not Kind.ARM64:
        raise InputError(
            f"a packed {found}", where=where, remedy="unpack it: only an arm64 Image comes packed"
        )
    copy = os.memfd_create("image", os.MFD_CLOEXEC)
    with open(copy, "wb") as file:
        file.write(data)
        file.flush()
        yield found, copy


def _deciding(handle: int) -> Read:
    head = os.pread(handle, HEAD, 0)
    notes = tuple(
        os.pread(handle, length, offset)
        for offset, length in note_places(head)
        if offset < 1 << 62
    ) if head[:4] == b"\x7fELF" else ()  # fmt: skip
    return Read(head, os.pread(handle, 2048, _VOLUME), notes)
