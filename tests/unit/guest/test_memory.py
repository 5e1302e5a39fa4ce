"""Guest memory: where QEMU says that it lies, and bytes out of it."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os

import pytest

from ringfence.errors import MissingError
from ringfence.guest.memory import Memory, Piece, pieces

VIEWS = """FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-00000000000c2fff (prio 0, ram): ram
  00000000000c3000-00000000000e7fff (prio 0, rom): ram @00000000000c3000
  0000000000100000-00000000bfffffff (prio 0, ram): ram @0000000000100000
  00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-000000013fffffff (prio 0, ram): ram @00000000c0000000

FlatView #2
 AS "cpu-smm-0", root: memory
 Root memory region: memory
  0000000000000000-00000000000a2fff (prio 0, ram): ram @0000000000005000
"""


def test_where_memory_lies_with_a_hole_below_4_gib() -> None:
    assert pieces(VIEWS) == (
        Piece(0, 0xC3000, 0),
        Piece(0xC3000, 0xE8000, 0xC3000),
        Piece(0x100000, 0xC0000000, 0x100000),
        Piece(0x100000000, 0x140000000, 0xC0000000),
    )
    assert pieces("nothing") == ()


def test_reading_goes_through_the_pieces() -> None:
    with contextlib.closing(Memory(1 << 20)) as memory:
        os.pwrite(memory.handle, b"guest", 0x5000)
        assert memory.read(0x5000, 5) == b"guest"
        memory.pieces = (Piece(0x100000000, 0x100001000, 0x5000),)
        assert memory.read(0x100000000, 5) == b"guest"
        assert memory.read(0x5000, 5) is None
        assert memory.read(0x100000FFE, 5) is None


def test_nobody_can_shorten_it() -> None:
    with contextlib.closing(Memory(1 << 20)) as memory:
        with pytest.raises(PermissionError):
            os.ftruncate(memory.handle, 0)
        with mmap.mmap(memory.handle, 1 << 20) as mapped:
            mapped[0] = 1


@pytest.mark.parametrize("call", ["memfd_create", "ftruncate"])
def test_memory_that_this_host_does_not_give(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EFBIG, "")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, call, refused)
    with pytest.raises(MissingError, match=r"no 2 MiB for the guest: file too large; .*--memory"):
        Memory(2 << 20)
    assert len(os.listdir("/proc/self/fd")) == before
