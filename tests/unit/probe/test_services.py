"""Listening sockets of /proc/PID/net/tcp and tcp6, and where loopback reaches them."""

from __future__ import annotations

import sys

import pytest

from ringfence.probe.services import Service, listed

HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout\n"
)
pytestmark = pytest.mark.skipif(sys.byteorder == "big", reason="rows of a little-endian machine")


def row(where: str, state: str = "0A") -> str:
    return f"   0: {where} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  0 0 77 1\n"


@pytest.mark.parametrize(
    ("where", "hosts"),
    [("0100007F:1F98", ["127.0.0.1"]), ("0200007F:1F98", ["127.0.0.2"]),
     ("00000000:1F98", ["127.0.0.1"]), ("0100000A:1F98", []),
     ("00000000000000000000000001000000:1F98", ["::1"]),
     ("00000000000000000000000000000000:1F98", ["127.0.0.1", "::1"]),
     ("0000000000000000FFFF00000300007F:1F98", ["127.0.0.3"]),
     ("B80D0120000000000000000001000000:1F98", [])],
)  # fmt: skip
def test_an_address_is_reached_where_it_is_bound(where: str, hosts: list[str]) -> None:
    assert listed(HEAD + row(where)) == [Service(host, 8088, 77) for host in hosts]


def test_connections_are_no_services() -> None:
    assert not listed(HEAD + row("0100007F:1F98", "01"))
    assert not listed(HEAD)
