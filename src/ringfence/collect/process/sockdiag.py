"""The files that Unix sockets are bound to, as the kernel tells them (sock_diag(7)).

/proc/net/unix has the name that a socket was bound by, which may be another file's by now. The
kernel answers for the network namespace that the asking socket was made in, whoever asks.
"""

from __future__ import annotations

import os
import socket
import struct

from ringfence.collect.process.inside import in_network
from ringfence.collect.process.namespaces import inode_of

SOCK_DIAG = 4
"""NETLINK_SOCK_DIAG of linux/netlink.h."""
BY_FAMILY = 20
"""SOCK_DIAG_BY_FAMILY of linux/sock_diag.h."""
DUMP = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP (netlink(7))."""
ERROR, DONE = 2, 3
SHOW_VFS, VFS = 2, 1
"""UDIAG_SHOW_VFS and UNIX_DIAG_VFS of linux/unix_diag.h."""
PATIENCE = 5.0
"""Seconds for each part of the answer."""
PART = 1 << 16
"""Bytes: the kernel sends no longer ones."""
_HEAD = struct.Struct("=IHHII")
_ASKING = struct.Struct("=BBHIIIII")
"""struct unix_diag_req: family, protocol, padding, states, inode, what to show, cookie."""
_SOCKET = struct.Struct("=BBBBIII")
"""struct unix_diag_msg: family, type, state, padding, inode, cookie."""
_ATTRIBUTE = struct.Struct("=HH")
_PLACE = struct.Struct("=II")
"""struct unix_diag_vfs: inode and device."""

Place = tuple[int, int]
"""The lower 32 bits of a file's inode number (the kernel tells no more), and its device as in
stat(2)."""


def bound_files(thread: int) -> dict[int, Place]:
    """The file of each Unix socket in the thread's network namespace that is bound to one, by the
    socket's inode; none where the kernel does not tell, or that namespace may not be entered."""
    try:
        with _asking_from(thread) as link:
            return _dump(link)
    except OSError:
        return {}


def _dump(link: socket.socket) -> dict[int, Place]:
    """Raises OSError."""
    request = _ASKING.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, SHOW_VFS, 0xFFFFFFFF, 0xFFFFFFFF)
    link.settimeout(PATIENCE)
    head = _HEAD.pack(_HEAD.size + len(request), BY_FAMILY, DUMP, 1, 0)
    link.sendto(head + request, (0, 0))
    found: dict[int, Place] = {}
    while True:
        data, sender = link.recvfrom(PART)
        if sender[0] == 0 and not parse(data, found):  # only the kernel has port 0
            return found


def parse(data: bytes, found: dict[int, Place]) -> bool:
    """Add what one datagram tells to `found`; whether more is to come. Pure; ends where it makes no
    sense."""
    place = 0
    while len(data) - place >= _HEAD.size:
        length, kind, *_ = _HEAD.unpack_from(data, place)
        if kind in (ERROR, DONE) or not _HEAD.size <= length <= len(data) - place:
            return False
        body = data[place + _HEAD.size : place + length]
        if kind == BY_FAMILY and len(body) >= _SOCKET.size:
            inode = _SOCKET.unpack_from(body)[4]
            file = _file(body[_SOCKET.size :])
            if file is not None:
                found[inode] = file
        place += (length + 3) & ~3
    return True


def _file(attributes: bytes) -> Place | None:
    place = 0
    while len(attributes) - place >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes, place)
        if length < _ATTRIBUTE.size:
            return None
        value = attributes[place + _ATTRIBUTE.size : place + length]
        if kind == VFS and len(value) == _PLACE.size:
            inode, device = _PLACE.unpack(value)
            # The kernel's own form of a device number: 12 and 20 bits.
            return inode, os.makedev(device >> 20, device & 0xFFFFF)
        place += (length + 3) & ~3
    return None


def _asking_from(thread: int) -> socket.socket:
    """A socket of sock_diag in the thread's network namespace. Raises OSError."""
    if inode_of(thread, "net") == inode_of("self", "net"):
        return _socket()
    return in_network(thread, _socket)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, SOCK_DIAG)
