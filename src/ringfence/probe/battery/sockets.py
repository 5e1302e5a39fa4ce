"""Socket families and netlink protocols: a socket of each is made, left alone and closed.

A family whose module the kernel would have to load is not tried: the module would stay behind.
Numbers: include/linux/socket.h, include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from ringfence.probe.definition import ABSENT, Inside, Outcome, Probe, Seen, closed, unsupported
from ringfence.probe.modules import unloaded

GROUP = "sockets"
TECHNIQUE = "T1068"
FAMILIES = {
    "unix": 1, "inet": 2, "ax25": 3, "ipx": 4, "appletalk": 5, "netrom": 6, "bridge": 7,
    "atmpvc": 8, "x25": 9, "inet6": 10, "rose": 11, "decnet": 12, "netbeui": 13, "security": 14,
    "key": 15, "netlink": 16, "packet": 17, "ash": 18, "econet": 19, "atmsvc": 20, "rds": 21,
    "sna": 22, "irda": 23, "pppox": 24, "wanpipe": 25, "llc": 26, "ib": 27, "mpls": 28, "can": 29,
    "tipc": 30, "bluetooth": 31, "iucv": 32, "rxrpc": 33, "isdn": 34, "phonet": 35,
    "ieee802154": 36, "caif": 37, "alg": 38, "nfc": 39, "vsock": 40, "kcm": 41, "qipcrtr": 42,
    "smc": 43, "xdp": 44, "mctp": 45,
}  # fmt: skip
STREAM, DGRAM, RAW, RDM, SEQPACKET, DCCP = 1, 2, 3, 4, 5, 6
MPTCP = 262
KINDS = (DGRAM, STREAM, SEQPACKET, RAW, RDM)
WRONG_KIND = frozenset({errno.ESOCKTNOSUPPORT, errno.EPROTONOSUPPORT, errno.EINVAL,
                        errno.EPROTOTYPE, errno.ENODEV})  # fmt: skip
OPENINGS = {
    "packet": "packet-sockets", "alg": "crypto-sockets", "vsock": "virtual-sockets",
    "tipc": "tipc", "can": "can", "bluetooth": "bluetooth", "rds": "rds", "smc": "smc",
    "xdp": "xdp-sockets", "kcm": "kcm", "qipcrtr": "qrtr", "key": "af-key",
}  # fmt: skip
"""Family -> the opening of the knowledge base that a socket of it is."""
CAPABILITIES = {"packet": "CAP_NET_RAW", "xdp": "CAP_NET_RAW", "key": "CAP_NET_ADMIN"}
BY_USERNS = ("packet", "xdp", "key")
"""A user namespace is another way to them: `namespace.packet-in-user`."""
PROTOCOLS = {
    "route": 0, "unused": 1, "usersock": 2, "firewall": 3, "sock-diag": 4, "nflog": 5, "xfrm": 6,
    "selinux": 7, "iscsi": 8, "audit": 9, "fib-lookup": 10, "connector": 11, "netfilter": 12,
    "ip6-fw": 13, "dnrtmsg": 14, "kobject-uevent": 15, "generic": 16, "scsitransport": 18,
    "ecryptfs": 19, "rdma": 20, "crypto": 21, "smc": 22,
}  # fmt: skip


def making(name: str) -> Callable[[Inside], Outcome]:
    """The attempt at a family."""
    number = FAMILIES[name]

    def attempt(inside: Inside) -> Outcome:
        """Makes a socket of the family, whatever its type, and does nothing with it."""
        module = unloaded(f"net-pf-{number}")
        if module:
            return _filtered(inside, number, module)
        found = None
        for kind in KINDS:
            result = inside.socket(number, kind, 0)
            if result == -errno.EPROTONOSUPPORT and number == 38:
                continue
            outcome = inside.judged(result, capability=CAPABILITIES.get(name, ""),
                                    absent=ABSENT | WRONG_KIND)  # fmt: skip
            absent = outcome.seen is Seen.UNSUPPORTED and result == -errno.EAFNOSUPPORT
            if outcome.seen is Seen.OPEN or absent:  # the kernel's own word on the family
                return outcome
            if found is None or outcome.seen is Seen.CLOSED:
                found = outcome
        return found or unsupported("no type of it")

    return attempt


def _family(name: str) -> Probe:
    number, opening = FAMILIES[name], OPENINGS.get(name)
    needs: tuple[str, ...] = (f"syscall:socket[{number}]",)
    if name in BY_USERNS:
        needs = (f"feature:{opening}", f"nscap:{CAPABILITIES[name]}", *needs)
    elif opening:
        needs = (f"opening:{opening}",)
    return Probe(f"socket.{name}", GROUP, f"Make a socket of the family {name}", TECHNIQUE,
                 making(name), needs, (f"probe:{opening}",) if opening else ())  # fmt: skip


def _filtered(inside: Inside, number: int, module: str) -> Outcome:
    """What the filter says, where trying would load a module."""
    for kind in KINDS:
        if inside.passing("socket", number, kind, 0) is not None:
            return unsupported(f"passes the filter; trying would load the module {module}")
    return inside.refused("socket", number, DGRAM, 0)


def _protocol(name: str) -> Probe:
    number = PROTOCOLS[name]

    def attempt(inside: Inside) -> Outcome:
        """Makes a netlink socket of the protocol and asks nothing through it."""
        module = unloaded(f"net-pf-16-proto-{number}")
        if module:
            return _filtered(inside, 16, module)
        return inside.judged(inside.socket(16, RAW, number))

    return Probe(f"socket.netlink-{name}", GROUP, f"Make a netlink socket: {name}", TECHNIQUE,
                 attempt, (f"syscall:socket[AF_NETLINK,*,{number}]",))  # fmt: skip


def _transport(name: str, kind: int, protocol: int, opening: str) -> Probe:
    def attempt(inside: Inside) -> Outcome:
        """Makes an internet socket of the transport and sends nothing."""
        module = unloaded(f"net-pf-2-proto-{protocol}-type-{kind}", f"net-pf-2-proto-{protocol}")
        if module:
            return _filtered(inside, 2, module)
        result = inside.socket(2, kind, protocol)
        if protocol == MPTCP and result == -errno.ENOPROTOOPT and inside.passes(
            "socket", 2, kind, protocol).passes:  # fmt: skip
            return closed("kernel setting (net.mptcp.enabled)")
        return inside.judged(result)

    # Others depend on settings that no condition speaks of (net.ipv4.ping_group_range).
    needs = (f"opening:{opening}",) if opening else ()
    decides = (f"probe:{opening}",) if opening else ()
    return Probe(f"socket.{name}", GROUP, f"Make an internet socket: {name}", TECHNIQUE, attempt,
                 needs, decides)  # fmt: skip


PROBES = (
    *(_family(name) for name in FAMILIES),
    *(_protocol(name) for name in PROTOCOLS),
    _transport("sctp", STREAM, 132, "sctp"),
    _transport("dccp", DCCP, 33, "dccp"),
    _transport("mptcp", STREAM, MPTCP, ""),
    _transport("ping", DGRAM, 1, ""),
)
