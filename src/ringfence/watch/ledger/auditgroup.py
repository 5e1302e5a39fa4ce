"""The kernel's audit as it happens: its netlink group for readers, or else the kernel's log.

The group (AUDIT_NLGRP_READLOG of linux/audit.h) gets every record, with or without auditd, and
only the kernel sends to it. The kernel's log has them where no auditd runs, at most ten in five
seconds (printk_ratelimit).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

from ringfence.errors import MissingError
from ringfence.watch.ledger.audit import MOST_LINE
from ringfence.watch.ledger.kmsg import KernelLog

AUDIT = 9
"""NETLINK_AUDIT of linux/netlink.h."""
READERS = 1
"""AUDIT_NLGRP_READLOG, as a bit."""
ROOM = 4 << 20
"""Bytes that wait in the kernel."""
MOST_AT_ONCE = 10_000
_HEADER = struct.Struct("=IHHII")
SO_RCVBUFFORCE = 33
_FIRST_PIDS = "pid:[4026531836]"
"""The first PID namespace: PROC_PID_INIT_INO of linux/proc_ns.h."""


class AuditGroup:
    """Audit records from now on, as a member of the group."""

    name = "netlink"

    def __init__(self) -> None:
        """Raises OSError where this process may not be one (it takes CAP_AUDIT_READ)."""
        self.lost = 0
        """How often records came faster than they were read."""
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, AUDIT
        )
        try:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
            self._socket.bind((0, READERS))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For select and poll."""
        return self._socket.fileno()

    def read(self) -> list[str]:
        """What was told since, without waiting: one line each, as audit.denial takes it."""
        found: list[str] = []
        for _ in range(MOST_AT_ONCE):
            try:
                data, sender = self._socket.recvfrom(MOST_LINE + _HEADER.size)
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self.lost += 1
                    continue
                if error.errno in (errno.EAGAIN, errno.EINTR):
                    return found
                raise
            if sender[0] == 0:  # only the kernel has port 0 (netlink(7))
                found += line_of(data)
        return found

    def close(self) -> None:
        """Leave the group."""
        self._socket.close()


def line_of(data: bytes) -> list[str]:
    """A datagram as the line that the kernel's log would have; none of one that is cut short."""
    if len(data) <= _HEADER.size:
        return []
    # Its own length is not to be relied upon: the kernel has not always counted the header.
    kind = _HEADER.unpack_from(data)[1]
    text = data[_HEADER.size :].rstrip(b"\0\n").decode(errors="replace")
    return [f"audit: type={kind} {text}"]


Source = AuditGroup | KernelLog


def audit_source() -> Source:
    """Where this process may read the kernel's audit. Raises MissingError."""
    if _link("/proc/self/ns/pid") != _FIRST_PIDS:
        raise MissingError("it numbers processes by the first PID namespace", where="kernel audit",
                           remedy="run it there: denials are not told here")  # fmt: skip
    first = _link("/proc/1/ns/net")
    if first in ("", _link("/proc/self/ns/net")):
        with contextlib.suppress(OSError):
            return AuditGroup()
    return KernelLog()


def _link(name: str) -> str:
    try:
        return os.readlink(name)
    except OSError:
        return ""
