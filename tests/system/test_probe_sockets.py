"""Socket families and netlink protocols: by filters that look at the number, by capabilities and
settings of one's own network namespace. What this kernel was built without is never open."""

from __future__ import annotations

import socket
from functools import partial

import pytest

from tests.system.conditions import (
    SOMEBODY,
    Step,
    refused,
    refused_with,
    spaces,
    user,
    user_space,
    written,
)
from tests.system.probing import CLOSED, OPEN, UNSUPPORTED, Case, attempt, check, standing

pytestmark = pytest.mark.system

EPERM = "seccomp (errno 1, operation not permitted)"
AFNOSUPPORT = "seccomp (errno 97, address family not supported by protocol)"
DOMAIN, PROTOCOL = 0, 2
STREAM, DGRAM, RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
FAMILIES = {"unix": (1, STREAM), "inet": (2, STREAM), "inet6": (10, STREAM), "netlink": (16, RAW),
            "packet": (17, RAW), "vsock": (40, STREAM), "xdp": (44, RAW),
            "alg": (38, socket.SOCK_SEQPACKET), "can": (29, RAW), "tipc": (30, STREAM),
            "bluetooth": (31, RAW), "rds": (21, socket.SOCK_SEQPACKET), "kcm": (41, DGRAM),
            "smc": (43, STREAM), "key": (15, RAW), "qipcrtr": (42, DGRAM)}  # fmt: skip
"""Family -> its number (linux/socket.h) and a type that it has."""
PROTOCOLS = {"route": 0, "usersock": 2, "sock-diag": 4, "xfrm": 6, "selinux": 7, "audit": 9,
             "fib-lookup": 10, "connector": 11, "netfilter": 12, "kobject-uevent": 15,
             "generic": 16, "crypto": 21, "rdma": 20, "iscsi": 8}  # fmt: skip
"""linux/netlink.h."""


def _made(family: int, kind: int, protocol: int = 0) -> None:
    socket.socket(family, kind, protocol).close()


def _here(family: int, kind: int, protocol: int = 0) -> bool:
    """Whether this kernel has it, as this very process sees."""
    try:
        _made(family, kind, protocol)
    except OSError:
        return False
    return True


HERE = {name: _here(*numbers) for name, numbers in FAMILIES.items()}
LINKS = {name: _here(socket.AF_NETLINK, RAW, number) for name, number in PROTOCOLS.items()}


@pytest.mark.parametrize("name", [name for name in FAMILIES if HERE[name]])
def test_a_family_that_a_filter_refuses(name: str) -> None:
    number, kind = FAMILIES[name]
    beside = (number + 1) % 46
    act = partial(_made, number, kind)
    check(Case(f"socket.{name}", (refused_with("socket", DOMAIN, beside),),
               (refused_with("socket", DOMAIN, number),), EPERM, act))  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_a_filter_that_answers_as_a_kernel_without_it(name: str) -> None:
    """EAFNOSUPPORT by a filter is closed by the filter, whether the kernel has it or not; without
    one it is the kernel's own word."""
    number, _ = FAMILIES[name]
    probe = f"socket.{name}"
    with standing(refused_with("socket", DOMAIN, number, errno=97)) as there:
        shown = attempt(there.pid, probe)[probe]
    assert (shown.seen, shown.by) == (CLOSED, AFNOSUPPORT)
    with standing() as there:
        shown = attempt(there.pid, probe)[probe]
    assert shown.seen == (OPEN if HERE[name] else UNSUPPORTED), shown


@pytest.mark.parametrize(
    ("name", "capability"), [("packet", "CAP_NET_RAW"), ("xdp", "CAP_NET_RAW")]
)
def test_a_family_that_takes_a_capability(name: str, capability: str) -> None:
    act = partial(_made, *FAMILIES[name])
    check(Case(f"socket.{name}", (user(SOMEBODY, capability),), (user(SOMEBODY),),
               f"capability {capability}", act))  # fmt: skip
    own = (user_space("0 0 65536"),)
    check(Case(f"socket.{name}", (*own, spaces("net")), own, "user namespace", act))


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if LINKS[name]])
def test_a_netlink_protocol_that_a_filter_refuses(name: str) -> None:
    number = PROTOCOLS[name]
    act = partial(_made, socket.AF_NETLINK, RAW, number)
    check(Case(f"socket.netlink-{name}", (refused_with("socket", PROTOCOL, number + 1),),
               (refused_with("socket", PROTOCOL, number),), EPERM, act))  # fmt: skip


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if not LINKS[name]])
def test_a_netlink_protocol_that_the_kernel_lacks(name: str) -> None:
    probe = f"socket.netlink-{name}"
    with standing() as there:
        shown = attempt(there.pid, probe)[probe]
    assert (shown.seen, shown.by) == (UNSUPPORTED, "kernel without the feature")


NETWORK = (spaces("net"),)


@pytest.mark.parametrize(
    ("closed", "by"),
    [((*NETWORK, written("/proc/sys/net/mptcp/enabled", "0")),
      "kernel setting (net.mptcp.enabled)"),
     ((*NETWORK, refused_with("socket", PROTOCOL, 262)), EPERM),
     ((*NETWORK, refused_with("socket", PROTOCOL, 262, errno=92)),
      "seccomp (errno 92, protocol not available)")],
    ids=("setting", "filter", "filter-like-the-setting"),
)  # fmt: skip
def test_multipath_tcp(closed: tuple[Step, ...], by: str) -> None:
    act = partial(_made, socket.AF_INET, STREAM, 262)
    check(Case("socket.mptcp", NETWORK, closed, by, act))


def test_ping_for_groups_that_may() -> None:
    setting = "/proc/sys/net/ipv4/ping_group_range"
    act = partial(_made, socket.AF_INET, DGRAM, socket.IPPROTO_ICMP)
    check(Case("socket.ping", (*NETWORK, written(setting, "0 65535"), user(SOMEBODY)),
               (*NETWORK, written(setting, "1 0"), user(SOMEBODY)),
               "kernel (credentials or a setting)", act))  # fmt: skip


def test_no_sockets_at_all() -> None:
    names = [f"socket.{name}" for name in FAMILIES]
    with standing(refused("socket")) as there:
        shown = attempt(there.pid, *names)
    assert {(one.seen, one.by) for one in shown.values()} == {(CLOSED, EPERM)}
