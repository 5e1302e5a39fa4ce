"""Sockets that no table in reach lists, asked themselves by a copy of the descriptor.

A socket that was made in another network namespace is in that namespace's tables alone, which
nobody may be in any more; one that is not bound is in none. pidfd_getfd(2) gives a copy of the
descriptor, and getsockopt(2) tells of it; the process itself is not stopped and sees nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.process.descriptors import descriptor_of

KINDS = {socket.SOCK_STREAM: "tcp", socket.SOCK_DGRAM: "udp", socket.SOCK_RAW: "raw"}


class Taking(msgspec.Struct, frozen=True):
    """What a socket takes bytes at: its kind, address and port, and a Unix socket's name."""

    kind: str
    address: str
    port: int | None
    name: bytes = b""


def ask(thread: int, descriptor: int, inode: int) -> Taking | None:
    """Where the socket takes what comes; None where it takes nothing, or is not there any more.

    Raises OSError when it cannot be asked.
    """
    try:
        copy = descriptor_of(thread, descriptor)
    except OSError:
        if _leads_to(thread, descriptor) != f"socket:[{inode}]":
            return None
        raise
    if os.fstat(copy).st_ino != inode:
        os.close(copy)
        return None
    with socket.socket(fileno=copy) as asked:
        return _taking(asked)


def _leads_to(thread: int, descriptor: int) -> str:
    try:
        return procfs.link(thread, f"fd/{descriptor}")
    except (OSError, procfs.Vanished):
        return ""


def _taking(asked: socket.socket) -> Taking | None:
    kind = KINDS.get(asked.type, "")
    if asked.family == socket.AF_PACKET:
        return Taking("packet", f"interface {asked.getsockname()[0]}", None)
    if asked.family == socket.AF_UNIX:
        return _unix(asked)
    if asked.family == socket.AF_VSOCK:
        return _vsock(asked)
    address, port, *_ = asked.getsockname()
    if kind == "tcp":
        takes = bool(asked.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    else:
        takes = (kind == "raw" or bool(port)) and not _connected(asked)
    return Taking(kind, address.partition("%")[0], port) if takes else None


def _unix(asked: socket.socket) -> Taking | None:
    name = os.fsencode(asked.getsockname())
    listens = asked.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    datagrams = asked.type == socket.SOCK_DGRAM and name and not _connected(asked)
    shown = b"@" + name[1:] if name[:1] == b"\0" else name
    return Taking("unix", "", None, shown) if listens or datagrams else None


def _vsock(asked: socket.socket) -> Taking | None:
    """Context id and port of vsock(7), the id as a number, or `any`."""
    listens = asked.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    context, port = asked.getsockname()
    bound = port != socket.VMADDR_PORT_ANY
    datagrams = asked.type == socket.SOCK_DGRAM and bound and not _connected(asked)
    address = "any" if context == socket.VMADDR_CID_ANY else str(context)
    return Taking("vsock", address, port) if listens or datagrams else None


def _connected(asked: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        asked.getpeername()
        return True
    return False
