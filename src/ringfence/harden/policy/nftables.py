"""An nftables ruleset for the service's own network namespace: nothing in or out by default.

Language: nft(8). `ringfence run` loads it before the service's first instruction. No connection
is tracked, which would cost a web server a twentieth of its requests: a connection begins with a
SYN, and that passes only to and from what is declared; without raw sockets nothing can be sent
that belongs to no connection. What arrives on loopback was sent by this namespace itself, and was
judged then.
"""

from __future__ import annotations

import ipaddress

from ringfence.harden.policy.needs import Needs

REST = "tcp flags & syn == 0 accept"
"""Packets of connections that exist: nearly all, and so the first rule."""
ANSWER = "tcp flags & (syn | ack) == (syn | ack) accept"
"""The other side's first packet."""


def write(needs: Needs) -> str:
    """The ruleset: connections to the declared ports, and to observed destinations."""
    ports = ", ".join(str(port) for port in needs.ports)
    inward, outward = ['iif "lo" accept', REST], [REST]
    if ports:
        inward.append(f"tcp dport {{ {ports} }} accept")
        outward.append(f"tcp sport {{ {ports} }} {ANSWER}")
        outward.append(f'oif "lo" tcp dport {{ {ports} }} accept')
    for host, port in needs.destinations:
        family = "ip6" if ipaddress.ip_address(host).version == 6 else "ip"
        outward.append(f"{family} daddr {host} tcp dport {port} accept")
        inward.append(f"{family} saddr {host} tcp sport {port} {ANSWER}")
    lines = [f"# {needs.origin}", "table inet ringfence {"]
    for chain, rules in {"input": inward, "output": outward, "forward": []}.items():
        lines.append(f"  chain {chain} {{")
        lines.append(f"    type filter hook {chain} priority filter; policy drop;")
        lines += [f"    {rule}" for rule in rules]
        lines.append("  }")
    return "\n".join([*lines, "}", ""])
