"""Which programs and processes are started, by the kernel's process connector: asked about while
they run.

A program such as chmod(1) has ended before the event of its change can be read, and a process that
executes another program after its change is that other one when it is asked about. Netlink,
protocol NETLINK_CONNECTOR: linux/connector.h and linux/cn_proc.h. Where the kernel has none,
refuses it or keeps silent, nothing is lost but who such processes were.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

CONNECTOR, CN_IDX_PROC, CN_VAL_PROC, LISTEN = 11, 1, 1, 1
EVENT_NONE, EVENT_FORK, EVENT_EXEC = 0, 0x1, 0x2
READ = 1 << 16
ROOM = 4 << 20
"""Bytes that wait in the kernel: a message takes about 1 kB there."""
MOST_AT_ONCE = 10_000
PATIENCE = 0.5
"""Seconds for the kernel's answer to the subscription; it comes at once, or never."""
SO_RCVBUFFORCE = 33
"""asm-generic/socket.h: beyond net.core.rmem_max, with CAP_NET_ADMIN."""
_NETLINK = struct.Struct("=IHHII")
_CN = struct.Struct("=IIIIHH")
_EVENT = struct.Struct("=IIQII")
"""struct proc_event up to the process of an exec: what, processor, time, thread, process. In the
answer to a subscription (EVENT_NONE) the fourth is an error number, and of a fork the fourth and
fifth are the parent's."""
_CHILD = struct.Struct("=II")
"""What follows of a fork: the child's thread and process."""


def parse_execs(data: bytes) -> Iterator[int]:
    """The processes that started another program, of one datagram. Pure; ends where it makes no
    sense."""
    for what, process, _ in _messages(data):
        if what == EVENT_EXEC:
            yield process


def parse_forks(data: bytes) -> Iterator[tuple[int, int]]:
    """Parent and child of each process, not thread, that was begun, of one datagram. Pure."""
    for what, parent, place in _messages(data):
        if what == EVENT_FORK and len(data) - place >= _CHILD.size:
            child = _CHILD.unpack_from(data, place)[1]
            if child != parent:
                yield parent, child


def _messages(data: bytes) -> Iterator[tuple[int, int, int]]:
    """What happened to which process, and where the rest of it stands."""
    place = 0
    while len(data) - place >= _NETLINK.size + _CN.size + _EVENT.size:
        length = _NETLINK.unpack_from(data, place)[0]
        if not _NETLINK.size + _CN.size + _EVENT.size <= length <= len(data) - place:
            return
        body = place + _NETLINK.size
        index, value, *_ = _CN.unpack_from(data, body)
        what, _, _, _, process = _EVENT.unpack_from(data, body + _CN.size)
        if (index, value) == (CN_IDX_PROC, CN_VAL_PROC):
            yield what, process, body + _CN.size + _EVENT.size
        place += (length + 3) & ~3


def accepted(data: bytes, sent: int) -> bool:
    """Whether a datagram is the kernel's consent to a subscription that had `sent` as its ack."""
    if len(data) < _NETLINK.size + _CN.size + _EVENT.size:
        return False
    _, _, _, ack, *_ = _CN.unpack_from(data, _NETLINK.size)
    what, _, _, refused, _ = _EVENT.unpack_from(data, _NETLINK.size + _CN.size)
    return (what, refused, ack) == (EVENT_NONE, 0, sent + 1)


class Execs:
    """A subscription. `fd` is -1 where there is none. `started` is told of each process that was
    begun (its parent and itself), or executed a program (0 and itself), and of a loss (0, 0)."""

    def __init__(self, started: Callable[[int, int], None] | None = None) -> None:
        self.fd = -1
        self._started = started
        self._socket: socket.socket | None = None
        try:
            link = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK,
                                 CONNECTOR)  # fmt: skip
        except OSError:
            return
        try:
            with contextlib.suppress(OSError):
                link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
            link.bind((0, CN_IDX_PROC))
            body = _CN.pack(CN_IDX_PROC, CN_VAL_PROC, 0, os.getpid(), 4, 0)
            head = _NETLINK.pack(_NETLINK.size + len(body) + 4, 3, 0, 0, os.getpid())
            link.send(head + body + struct.pack("=I", LISTEN))
            heard = _answered(link)
        except OSError:
            heard = False
        if not heard:
            link.close()
            return
        self._socket, self.fd = link, link.fileno()

    def read(self) -> tuple[list[int], bool]:
        """Processes that have started another program since, in order, and whether that is not all
        of them: more came than could be held."""
        found: list[int] = []
        for _ in range(MOST_AT_ONCE):
            try:
                if self._socket is None:
                    return found, False
                data, sender = self._socket.recvfrom(READ)
            except OSError as error:
                # ENOBUFS: what was lost is lost, and all that is there now comes after it.
                lost = error.errno not in (errno.EAGAIN, errno.EINTR)
                if lost and self._started is not None:
                    self._started(0, 0)
                return found, lost
            if sender[0] == 0:  # only the kernel has port 0 (netlink(7))
                executed = [*parse_execs(data)]
                found += executed
                self._tell(data, executed)
        return found, True

    def _tell(self, data: bytes, executed: list[int]) -> None:
        if self._started is not None:
            for parent, child in parse_forks(data):
                self._started(parent, child)
            for pid in executed:
                self._started(0, pid)

    def close(self) -> None:
        """End it."""
        if self._socket is not None:
            self._socket.close()


def _answered(link: socket.socket) -> bool:
    """Whether the kernel consents: from a PID namespace below the first one it never answers. What
    it tells other subscribers arrives here, too, as long as there are any."""
    poll = select.poll()
    poll.register(link.fileno(), select.POLLIN)
    limit = time.monotonic() + PATIENCE
    while (left := limit - time.monotonic()) > 0 and poll.poll(left * 1000):
        data, sender = link.recvfrom(READ)
        if sender[0] == 0 and accepted(data, os.getpid()):
            return True
    return False
