"""Where the workload could send to: the internet, its neighbours, the clouds' metadata.

Nothing is sent. Whether anything could be is asked of the routes (connect(2) on a datagram socket
looks one up and sends nothing) and of the rules of its network namespace.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable

from ringfence.collect.host.clouds import METADATA
from ringfence.probe.battery.network import AF_INET, AF_INET6, DGRAM, GROUP, STREAM, address
from ringfence.probe.definition import Inside, Outcome, Probe, Seen, closed, opened, undecided

SOMEWHERE = {"internet": "192.0.2.1", "internet-ipv6": "2001:db8::1"}
"""Addresses for documentation (RFC 5737, RFC 3849)."""
REACHABLE = "net:metadata-reachable"
PRIVATE = ("10.0.0.1", "172.16.0.1", "192.168.0.1")
"""One of each network of RFC 1918."""
INNER = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
                                         "100.64.0.0/10", "fc00::/7")))  # fmt: skip
"""Those, the one between customers and their provider (RFC 6598), and RFC 4193's."""
NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT,
            errno.EINVAL, errno.EACCES)  # fmt: skip
"""The last two are the answers of blackhole and prohibit routes (ip-route(8))."""


def _somewhere(name: str, host: str, technique: str, rules_out: tuple[str, ...] = ()) -> Probe:
    def attempt(inside: Inside) -> Outcome:
        """Looks up the route that a datagram would take, and sends none."""
        return _towards(inside, host)

    return Probe(f"network.{name}", GROUP, f"Send to: {name} ({host})", technique, attempt,
                 rules_out=rules_out)  # fmt: skip


def private(inside: Inside) -> Outcome:
    """Looks up the routes that datagrams to private addresses would take, and sends none."""
    routed = (one.host for one in inside.view.destinations if _inner(one.host))
    return _anywhere(inside, (*PRIVATE, *routed))


def neighbours(inside: Inside) -> Outcome:
    """Looks up the routes that datagrams to its own networks would take, and sends none."""
    hosts = tuple(one.host for one in inside.view.destinations if one.direct)
    if not hosts:
        return closed("no route", "it is in no network but loopback's")
    return _anywhere(inside, hosts)


def _inner(host: str) -> bool:
    """Whether an address is one of a network that the internet does not lead to."""
    return any(ipaddress.ip_address(host) in network for network in INNER)


def _anywhere(inside: Inside, hosts: Iterable[str]) -> Outcome:
    """Whether one of these can be sent to. What stops most of the way is told of the others."""
    found = []
    for host in hosts:
        found.append(_towards(inside, host))
        if found[-1].seen is Seen.OPEN:
            return found[-1]
    unknown = (one for one in found if one.seen is Seen.UNSUPPORTED)
    stopped = (one for one in found if one.layer != "no route")
    return next(unknown, None) or next(stopped, None) or found[0]


def _towards(inside: Inside, host: str) -> Outcome:
    family = AF_INET6 if ":" in host else AF_INET
    if not inside.socket_passes(family, DGRAM) and inside.socket_passes(family, STREAM):
        return undecided("filters refuse datagrams alone, and TCP cannot ask without sending")
    handle = inside.socket(family, DGRAM, 0)
    if handle < 0:
        return inside.judged(handle)
    where = address(host, 53)
    result = inside.call("connect", handle, where, len(where))
    if -result in NO_ROUTE and inside.passes("connect", handle, where, len(where)).passes:
        return closed("no route", host)
    if result >= 0:
        return _filtered(inside, host)
    return inside.judged(result, detail=f"a route to {host}")


def _filtered(inside: Inside, host: str) -> Outcome:
    """What rules say of an address to which there is a route."""
    rules = inside.view.output
    if rules is None:
        return undecided(f"a route to {host}, and its rules could not be read")
    dropped = rules.drops(host.partition("%")[0], crafted=inside.view.holds("CAP_NET_RAW"))
    if dropped is None:
        return undecided(f"a route to {host}, and rules that tell packets apart by more than that")
    if dropped:
        return closed("network filter", f"a route to {host}, and rules that drop what goes out")
    return opened(f"a route to {host}")


PROBES = (
    *(_somewhere(name, host, "T1041") for name, host in SOMEWHERE.items()),
    *(_somewhere(name, host, "T1552.005", (REACHABLE,)) for name, host in METADATA.items()),
    Probe("network.private", GROUP, f"Send to: private ({', '.join(PRIVATE)}, and where its routes "
          "lead)", "T1046", private),
    Probe("network.neighbours", GROUP, "Send to: its own networks", "T1046", neighbours),
)  # fmt: skip
