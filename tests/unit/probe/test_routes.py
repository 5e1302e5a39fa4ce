"""Where routes lead, as the kernel's tables have them."""

from __future__ import annotations

import ipaddress
import sys

from ringfence.probe.routes import Destination, listed, listed6, local

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 172.17.0.0
        /16 link UNICAST
Local:
           |-- 127.0.0.1
              /32 host LOCAL
           |-- 172.17.0.1
              /32 host LOCAL
           |-- 172.17.255.255
              /32 link BROADCAST
"""
HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"


def word(address: str) -> str:
    """An address as /proc/net/route has it."""
    return f"{int.from_bytes(ipaddress.IPv4Address(address).packed, sys.byteorder):08X}"


def row(network: str, *, gateway: str = "0.0.0.0", flags: int = 1, name: str = "v0") -> str:  # noqa: S104
    at = ipaddress.ip_network(network)
    ends = word(str(at.network_address)), word(gateway)
    return f"{name} {ends[0]} {ends[1]} {flags:04X} 0 0 0 {word(str(at.netmask))} 0 0 0\n"


def hosts(*rows: str) -> list[Destination]:
    return list(listed(HEAD + "".join(rows), local(TRIE)))


def test_its_own_addresses() -> None:
    assert {str(one) for one in local(TRIE)} == {"127.0.0.1", "172.17.0.1"}


def test_a_network_is_asked_for_an_address_of_somebody_elses() -> None:
    assert hosts(row("172.17.0.0/16")) == [Destination("172.17.0.2", True)]
    assert hosts(row("10.8.0.0/24")) == [Destination("10.8.0.1", True)]
    assert hosts(row("169.254.170.2/32")) == [Destination("169.254.170.2", True)]
    assert hosts(row("172.17.0.1/32")) == []  # its own alone


def test_what_lies_behind_a_router_is_no_neighbour() -> None:
    behind = row("10.8.0.0/24", gateway="172.17.0.9", flags=3)
    assert hosts(behind) == [Destination("10.8.0.1", False)]


def test_routes_that_lead_nowhere_in_particular() -> None:
    assert hosts(row("0.0.0.0/0", gateway="172.17.0.9", flags=3), row("10.0.0.0/8", flags=0x201),
                 row("10.0.0.0/8", flags=0), row("127.0.0.0/8", name="lo")) == []  # fmt: skip


def line6(network: str, flags: int, name: str = "v0") -> str:
    at = ipaddress.IPv6Network(network)
    none = "0" * 32
    return (f"{at.network_address.packed.hex()} {at.prefixlen:02x} {none} 00 {none} 00000100 "
            f"00000001 00000000 {flags:08x} {name}\n")  # fmt: skip


MINE = "fe800000000000000000000000000001 07 40 20 80 v0\n"


def test_ipv6() -> None:
    """A link-local address takes the number of its interface; multicast is none of anybody."""
    rows = (line6("fd00:1::/64", 0x1), line6("fe80::/64", 0x1), line6("ff00::/8", 0x1),
            line6("fe80::1/128", 0x80200001), line6("::/0", 0x3), line6("fd00:2::/64", 0x3),
            line6("fd00:3::/64", 0x201), line6("::1/128", 0x80200001, "lo"))  # fmt: skip
    assert list(listed6("".join(rows), MINE)) == [
        Destination("fd00:1::1", True), Destination("fe80::2%7", True),
        Destination("fd00:2::1", False),
    ]  # fmt: skip
