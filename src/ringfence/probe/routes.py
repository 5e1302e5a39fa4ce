"""Where the routes of a network namespace lead, as /proc lists them: an address for each of them.

Of the main table alone for IPv4 (/proc/net/route); default routes are left out, since any address
stands for those.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

UP, GATEWAY, REJECT = 0x1, 0x2, 0x200
ANYCAST, LOCAL = 0x00100000, 0x80000000
"""Flags of routes (include/uapi/linux/route.h and ipv6_route.h)."""
LOOPBACK = "lo"
MOST = 64
"""Routes of each kind."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Destination(msgspec.Struct, frozen=True):
    """An address that a route leads to, with `%` and the interface's number where it takes one to
    say which (link-local); `direct` where no router lies between."""

    host: str
    direct: bool


def destinations(pid: int) -> tuple[Destination, ...]:
    """Those of the network namespace of a process; what cannot be read leads nowhere."""
    place = Path(f"/proc/{pid}/net")
    found: list[Destination] = []
    with contextlib.suppress(OSError, ValueError):
        own = local((place / "fib_trie").read_text("ascii"))
        found += itertools.islice(listed((place / "route").read_text("ascii"), own), MOST)
    with contextlib.suppress(OSError, ValueError):
        mine = (place / "if_inet6").read_text("ascii")
        found += itertools.islice(listed6((place / "ipv6_route").read_text("ascii"), mine), MOST)
    return tuple(dict.fromkeys(found))


def local(trie: str) -> frozenset[Address]:
    """The namespace's own IPv4 addresses, of its /proc/net/fib_trie."""
    found, last = set(), ""
    for line in trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            found.add(ipaddress.ip_address(last))
    return frozenset(found)


def listed(table: str, own: frozenset[Address]) -> Iterator[Destination]:
    """Of /proc/net/route: columns of 32 bits are in the processor's order."""
    for row in map(str.split, table.splitlines()[1:]):
        flags, mask = int(row[3], 16), _address4(row[7])
        network = ipaddress.ip_network(f"{_address4(row[1])}/{mask}")
        if not flags & UP or flags & REJECT or row[0] == LOOPBACK or not network.prefixlen:
            continue
        host = _within(network, own)
        if host is not None:
            yield Destination(str(host), not flags & GATEWAY)


def listed6(table: str, mine: str) -> Iterator[Destination]:
    """The same of /proc/net/ipv6_route; `mine` is /proc/net/if_inet6."""
    numbers, own = {}, set()
    for words in map(str.split, mine.splitlines()):
        numbers[words[5]] = int(words[1], 16)
        own.add(_address6(words[0]))
    for row in map(str.split, table.splitlines()):
        flags, size = int(row[8], 16), int(row[1], 16)
        start = _address6(row[0])
        if not flags & UP or flags & (REJECT | ANYCAST | LOCAL) or row[9] == LOOPBACK:
            continue
        if not size or start.is_multicast:
            continue
        host = _within(ipaddress.ip_network((start, size)), frozenset(own))
        if host is not None:
            scope = f"%{numbers.get(row[9], 0)}" if host.is_link_local else ""
            yield Destination(f"{host}{scope}", not flags & GATEWAY)


def _within(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network, own: frozenset[Address]
) -> Address | None:
    """The first address that somebody else could have; None where there is none."""
    hosts: Iterable[Address] = network.hosts()
    return next((host for host in itertools.islice(hosts, len(own) + 1) if host not in own), None)


def _address4(word: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(word, 16).to_bytes(4, sys.byteorder))


def _address6(word: str) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(bytes.fromhex(word))
