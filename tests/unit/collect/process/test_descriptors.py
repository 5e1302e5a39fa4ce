"""Descriptor tables of threads, and files that are registered with io_uring."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from pathlib import Path

import pytest

from ringfence.collect.process import descriptors
from ringfence.collect.process.descriptors import ring_sockets, sockets_of, tables

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
