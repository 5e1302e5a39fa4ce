"""Services that a network namespace's loopback leads to, as /proc lists them (proc_net_tcp(5))."""

from __future__ import annotations

import contextlib
import ipaddress
import sys
from pathlib import Path

import msgspec

LISTEN = "0A"
LOOPBACKS = {4: "127.0.0.1", 6: "::1"}


class Service(msgspec.Struct, frozen=True):
    """Where a listening socket is reached over loopback, and the socket's inode."""

    host: str
    port: int
    inode: int


def services(pid: int) -> tuple[Service, ...]:
    """Those of the network namespace of a process."""
    found: dict[Service, None] = {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/net/{name}").read_text("ascii")
            found.update(dict.fromkeys(listed(text)))
    return tuple(found)


def listed(table: str) -> list[Service]:
    """Those of one table: /proc/PID/net/tcp or tcp6."""
    found = []
    for line in table.splitlines()[1:]:
        row = line.split()
        if row[3] == LISTEN:
            where, _, port = row[1].partition(":")
            found += [Service(host, int(port, 16), int(row[9])) for host in _reached(where)]
    return found


def _reached(where: str) -> list[str]:
    """Addresses of loopback at which a socket bound to this one answers. One that is bound to `::`
    may take IPv4, too (IPV6_V6ONLY, ipv6(7)): that is not in the table."""
    words = [int(where[at : at + 8], 16) for at in range(0, len(where), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_unspecified:
            return list(LOOPBACKS.values())
        address = address.ipv4_mapped or address
    if address.is_unspecified:
        return [LOOPBACKS[address.version]]
    return [str(address)] if address.is_loopback else []
