"""What a service needs of the host: the one record from which every policy is written."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from ringfence.harden.layout import Entry
from ringfence.harden.service import Identity, Service
from ringfence.run.fence import Writable


class Needs(msgspec.Struct, frozen=True):
    """Observed and deduced needs. `calls` and `serving` map a system call to why it is allowed;
    `taken` are the calls that the serving phase loses. `ports` are TCP ports it listens on,
    `destinations` (address, port) it connects to beyond loopback. `sockets` are pairs like
    (AF_INET, SOCK_STREAM). `programs` are paths that it executes, `program` the one that it
    is started as, which may be a link to one of them. `origin` says in a line where all this was
    seen.
    """

    name: str
    service: Service
    program: str
    who: Identity
    calls: dict[str, str]
    serving: dict[str, str]
    sockets: tuple[tuple[str, str], ...]
    prctls: tuple[str, ...]
    ioctls: tuple[str, ...]
    ports: tuple[int, ...]
    destinations: tuple[tuple[str, int], ...]
    programs: tuple[str, ...]
    writable: tuple[Writable, ...]
    entries: tuple[Entry, ...]
    origin: str
    asked: tuple[str, ...] = ()
    """Calls with arguments that the user allows, as `socket[AF_ALG,SOCK_SEQPACKET]`."""
    memory_programs: bool = False
    """Whether it executed a file in memory alone."""
    output_by_name: bool = False
    """Whether it opens its standard output or error (/dev/stdout), which no socket can be then."""

    @property
    def taken(self) -> tuple[str, ...]:
        """Calls that the serving phase no longer has."""
        return tuple(sorted(self.calls.keys() - self.serving.keys()))


def destinations(connects: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Of the addresses and ports that it connected to, those beyond loopback, sorted."""
    found = {(_address(host), port) for host, port in connects if port}
    return tuple(sorted((str(host), port) for host, port in found if not host.is_loopback))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Connections to ::ffff:192.0.2.1 are IPv4 (RFC 4291, 2.5.5.2), and so are their packets."""
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
