"""Descriptor tables of threads, and files that are registered with io_uring."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import threading
from pathlib import Path

import pytest

from ringfence.collect.process import descriptors
from ringfence.collect.process.descriptors import mapped_rings, ring_sockets, sockets_of, tables

CLONE_FILES = 0x400


@pytest.mark.parametrize("known", [True, False], ids=["kcmp", "no kcmp"])
@pytest.mark.parametrize("apart", [True, False])
def test_a_socket_in_the_table_of_one_thread_is_seen(
    monkeypatch: pytest.MonkeyPatch, apart: bool, known: bool
) -> None:
    if not known:
        monkeypatch.setattr(descriptors, "_share", lambda one, other: False)
    opened, done = threading.Event(), threading.Event()
    inodes: list[int] = []

    def listen() -> None:
        if apart:
            assert ctypes.CDLL(None).unshare(CLONE_FILES) == 0
        with socket.socket() as kept:
            inodes.append(os.fstat(kept.fileno()).st_ino)
            opened.set()
            done.wait()

    thread = threading.Thread(target=listen)
    thread.start()
    opened.wait()
    found, complete = tables(os.getpid())
    own = next(table for table in found if thread.native_id in table.threads)
    done.set()
    thread.join()
    assert complete
    assert (os.getpid() in own.threads) is (known and not apart)
    assert inodes[0] in own.sockets
    assert (inodes[0] in found[0].sockets) is not apart


def test_more_tables_than_are_read_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "_share", lambda one, other: False)
    monkeypatch.setattr(descriptors, "threads_of", lambda pid: [pid, pid])
    assert tables(os.getpid())[1]
    monkeypatch.setattr(descriptors, "MOST_TABLES", 1)
    assert not tables(os.getpid())[1]


HEAD = b"pos:\t0\nSqThread:\t-1\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (HEAD + b"UserFiles:\t0\nUserBufs:\t0\n", frozenset()),
        (HEAD + b"UserFiles:\t2\n    0: socket:[77]\n    1: /tmp/x\nUserBufs:\t0\n", {77}),
        (HEAD + b"UserFiles:\t2\n    0: <none>\n    1: socket:[8]\nUserBufs:\t0\n", {8}),
        (HEAD + b"UserFiles:\t1\n    0: anon_inode:[eventfd]\nUserBufs:\t0\n", frozenset()),
        (HEAD + b"UserFiles:\t1\n    0: /socket:[9]\nUserBufs:\t1\n    0: 0x7/1\n", frozenset()),
        (HEAD + b"UserFiles:\t1\n    0: TCP\nUserBufs:\t0\n", None),
        (HEAD + b"UserFiles:\t4\nUserBufs:\t0\n", None),
        (HEAD, None),
        (b"", None),
    ],
)
def test_files_of_a_ring(text: bytes, wanted: set[int] | None) -> None:
    assert ring_sockets(text) == wanted


def test_a_socket_that_is_registered_with_a_real_ring(tmp_path: Path) -> None:
    call = ctypes.CDLL(None, use_errno=True).syscall
    parameters = ctypes.create_string_buffer(120)
    ring = call(425, 4, parameters)
    if ring < 0:
        pytest.skip("this kernel lets nobody use io_uring")
    try:
        with socket.socket() as kept:
            inode = os.fstat(kept.fileno()).st_ino
            files = (ctypes.c_int * 1)(kept.fileno())
            assert call(427, ring, 2, files, 1) == 0
        assert inode in sockets_of(os.getpid())
        assert call(427, ring, 3, None, 0) == 0
        assert inode not in sockets_of(os.getpid())
    finally:
        os.close(ring)


def test_a_ring_that_is_mapped_and_has_no_descriptor_is_told() -> None:
    ring = ctypes.CDLL(None, use_errno=True).syscall(425, 4, ctypes.create_string_buffer(120))
    if ring < 0:
        pytest.skip("this kernel lets nobody use io_uring")
    before = _unread()
    libc = ctypes.CDLL(None)  # Python's own mmap keeps a descriptor of its own
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    entries = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, ring, descriptors.RING_ENTRIES)
    assert _unread() == before
    os.close(ring)
    assert _unread() == before + 1
    assert libc.munmap(entries, 4096) == 0
    assert _unread() == before


def _unread() -> int:
    return sum(table.unread_rings for table in tables(os.getpid())[0])


RING = b"7fed4b7b0000-7fed4b7b1000 rw-s 10000000 00:10 12827332                   "


@pytest.mark.parametrize(
    ("row", "count"),
    [
        (RING + b"anon_inode:[io_uring]", 1),
        (RING.replace(b"10000000", b"00000000") + b"anon_inode:[io_uring]", 0),
        (RING + b"/tmp/anon_inode:[io_uring]", 0),
        (RING + b"anon_inode:[eventpoll]", 0),
    ],
)
def test_rings_among_the_maps(row: bytes, count: int) -> None:
    other = b"7ffc0000-7ffd0000 rw-p 00000000 00:00 0    [stack]\n"
    assert mapped_rings(other + row + b"\n" + other) == count
    assert mapped_rings(2 * (row + b"\n")) == 2 * count
