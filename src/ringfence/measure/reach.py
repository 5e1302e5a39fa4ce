"""How far away an attacker can stand and still reach a socket: its address, mode, and firewall."""

from __future__ import annotations

import ipaddress

from ringfence.measure.admitted import admitted
from ringfence.measure.conditions.scene import namespace_shared
from ringfence.model.deployment import Reach
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.facts import Facts
from ringfence.model.kernel import Firewall, InputChain
from ringfence.model.process import Listener, Process

LOOPBACK_CONTEXT = "1"
"""VMADDR_CID_LOCAL of linux/vm_sockets.h."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def reach(
    item: Listener, by_pid: dict[int | None, Process], facts: Facts
) -> tuple[Reach, Evidence]:
    """How far away an attacker can stand and still reach the socket."""
    if item.kind == "unix":
        return _unix(item, facts)
    if item.kind == "vsock":
        return _vsock(item)
    holder = next((by_pid[pid] for pid in item.holders if pid in by_pid), None)
    try:
        address = ipaddress.ip_address(item.address)
    except ValueError:
        seen = Evidence(Grade.ASSUMED, item.evidence.source, "every sender on the network")
        return Reach.ADJACENT, seen
    if address.is_loopback:
        return _loopback(item, holder)
    bound = _bound(item, address)
    filtered = _filtered(item, address, facts)
    if filtered is not None and filtered[0].rank >= bound[0].rank:
        return filtered
    return bound


def _bound(item: Listener, address: Address) -> tuple[Reach, Evidence]:
    """What the address alone says."""
    if not address.is_unspecified and (address.is_private or address.is_link_local):
        detail = f"bound to the private address {item.address}"
        return Reach.ADJACENT, Evidence(Grade.OBSERVED, item.evidence.source, detail)
    if item.exposed is False:
        detail = "its network namespace has only loopback: publishing the port is assumed"
        return Reach.INTERNET, Evidence(Grade.ASSUMED, item.evidence.source, detail)
    detail = f"bound to {item.address}"
    return Reach.INTERNET, Evidence(Grade.OBSERVED, item.evidence.source, detail)


def _filtered(item: Listener, address: Address, facts: Facts) -> tuple[Reach, Evidence] | None:
    """What the firewall of its network namespace says, where there is one that refuses."""
    host = facts.host
    seen = host.firewall if host is not None else None
    if host is None or seen is None or seen.value is None or item.port is None:
        return None
    if item.network is None or item.network != host.network:
        return None
    # A socket on the IPv6 wildcard is reached over both: the farther of the two counts.
    families = ("ip",) if address.version == 4 else ("ip6", "ip") if address.is_unspecified else (
        "ip6",
    )  # fmt: skip
    found = [_through(item, family, seen.value, seen.evidence.source) for family in families]
    return min(found, key=lambda answer: answer[0].rank)


def _through(
    item: Listener, family: str, firewall: Firewall, source: str
) -> tuple[Reach, Evidence]:
    """The nearest that any refusing chain of the family asks for."""
    answers = [_past(item, chain, source) for chain in firewall.chains if family in chain.families]
    unfiltered = (Reach.INTERNET, Evidence(Grade.OBSERVED, source, f"no {family} chain refuses"))
    return max(answers, key=lambda answer: answer[0].rank, default=unfiltered)


def _past(item: Listener, chain: InputChain, source: str) -> tuple[Reach, Evidence]:
    fitting = [
        rule
        for rule in chain.accepted
        if rule.protocol in ("", item.kind) and rule.low <= (item.port or 0) <= rule.high
    ]
    if any(rule.everyone for rule in fitting):
        detail = f"{chain.name} accepts {item.kind} port {item.port}"
        return Reach.INTERNET, Evidence(Grade.OBSERVED, source, detail)
    if not chain.followed:
        detail = f"{chain.name} hands on to other chains, which were not followed"
        return Reach.INTERNET, Evidence(Grade.ASSUMED, source, detail)
    if fitting:
        detail = f"{chain.name} accepts {item.kind} port {item.port} from some addresses"
        return Reach.ADJACENT, Evidence(Grade.OBSERVED, source, detail)
    detail = f"{chain.name} accepts no {item.kind} port {item.port}: from the host itself alone"
    return Reach.NEIGHBOUR, Evidence(Grade.OBSERVED, source, detail)


def _loopback(item: Listener, holder: Process | None) -> tuple[Reach, Evidence]:
    shared = namespace_shared(holder, "net") if holder is not None else None
    if shared is not None and shared.value is False and not item.namespace_shared:
        detail = "loopback of a network namespace that no other process is in"
        return Reach.INSIDE, Evidence(Grade.OBSERVED, shared.evidence.source, detail)
    detail = "bound to loopback: whoever is in the same network namespace"
    return Reach.NEIGHBOUR, Evidence(Grade.OBSERVED, item.evidence.source, detail)


def _unix(item: Listener, facts: Facts) -> tuple[Reach, Evidence]:
    """By its file, where it has one."""
    if item.way:
        found, grade, detail = admitted(item, frozenset({0}).union(*map(_uids, facts.processes)))
        return found, Evidence(grade, item.path, detail)
    if item.path.startswith("@") or not item.path:
        detail = "an abstract Unix socket: whoever is in the same network namespace"
        return Reach.LOCAL, Evidence(Grade.OBSERVED, item.evidence.source, detail)
    detail = "the file that it is bound to was not seen at its name: who may connect is not known"
    return Reach.LOCAL, Evidence(Grade.ASSUMED, item.evidence.source, detail)


def _vsock(item: Listener) -> tuple[Reach, Evidence]:
    """Sockets of virtual machines pass by every network (vsock(7)): between a guest and the machine
    underneath, whose other tenants and services a neighbour is."""
    if item.address == LOOPBACK_CONTEXT:
        detail = "bound to the loopback of AF_VSOCK: from this system alone"
        return Reach.LOCAL, Evidence(Grade.OBSERVED, item.evidence.source, detail)
    detail = "from the machine underneath, or from guests of this one"
    return Reach.NEIGHBOUR, Evidence(Grade.OBSERVED, item.evidence.source, detail)


def _uids(process: Process) -> frozenset[int]:
    """The users that it is or may become again."""
    held = process.credentials.value
    return frozenset() if held is None else held.uids | {held.uid}
