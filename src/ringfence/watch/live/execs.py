"""Which programs are started, by the kernel's process connector: asked about while they run.

A program such as chmod(1) has ended before the event of its change can be read. Netlink, protocol
NETLINK_CONNECTOR: linux/connector.h and linux/cn_proc.h. Where the kernel has none or refuses it,
nothing is lost but who such short-lived processes were.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

CONNECTOR, CN_IDX_PROC, CN_VAL_PROC, LISTEN = 11, 1, 1, 1
EVENT_EXEC = 0x2
READ = 1 << 16
_NETLINK = struct.Struct("=IHHII")
_CN = struct.Struct("=IIIIHH")
_EVENT = struct.Struct("=IIQII")
"""struct proc_event up to the process of an exec: what, processor, time, thread, process."""


def parse_execs(data: bytes) -> Iterator[int]:
    """The processes that started another program, of one datagram. Pure; ends where it makes no
    sense."""
    place = 0
    while len(data) - place >= _NETLINK.size + _CN.size + _EVENT.size:
        length = _NETLINK.unpack_from(data, place)[0]
        if not _NETLINK.size + _CN.size + _EVENT.size <= length <= len(data) - place:
            return
        body = place + _NETLINK.size
        index, value, *_ = _CN.unpack_from(data, body)
        what, _, _, _, process = _EVENT.unpack_from(data, body + _CN.size)
        if (index, value, what) == (CN_IDX_PROC, CN_VAL_PROC, EVENT_EXEC):
            yield process
        place += (length + 3) & ~3


class Execs:
    """A subscription. `fd` is -1 where there is none."""

    def __init__(self) -> None:
        self.fd = -1
        self._socket: socket.socket | None = None
        try:
            link = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK,
                                 CONNECTOR)  # fmt: skip
        except OSError:
            return
        try:
            link.bind((0, CN_IDX_PROC))
            body = _CN.pack(CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, 0) + struct.pack("=I", LISTEN)
            head = _NETLINK.pack(_NETLINK.size + len(body), 3, 0, 0, os.getpid())
            link.send(head + body)
        except OSError:
            link.close()
            return
        self._socket, self.fd = link, link.fileno()

    def read(self) -> list[int]:
        """Processes that have started another program since. What was lost is lost."""
        if self._socket is None:
            return []
        try:
            data, sender = self._socket.recvfrom(READ)
        except OSError:  # ENOBUFS among them: more came than could be held
            return []
        # Only the kernel has port 0 (netlink(7)).
        return list(parse_execs(data)) if sender[0] == 0 else []

    def close(self) -> None:
        """End it."""
        if self._socket is not None:
            self._socket.close()
