"""An nftables ruleset for the service's own network namespace: nothing in or out by default.

Language: nft(8). `ringfence run` loads it before the service's first instruction. No connection
is tracked, which costs a web server a twentieth of its requests: a connection begins with a lone
SYN, and that passes only to declared ports and destinations; without raw sockets no other packet
can be sent that belongs to no connection.
"""

from __future__ import annotations

import ipaddress

from ringfence.harden.policy.needs import Needs

ANSWER = "tcp flags & (syn | ack) != syn accept"
"""Anything but the first packet of a connection."""


def write(needs: Needs) -> str:
    """The ruleset: connections to the declared ports, and to observed destinations."""
    ports = ", ".join(str(port) for port in needs.ports)
    inward, outward = [], []
    if ports:
        inward = [
            f"tcp dport {{ {ports} }} accept",
            f'iifname "lo" tcp sport {{ {ports} }} {ANSWER}',
        ]
        outward = [
            f"tcp sport {{ {ports} }} {ANSWER}",
            f'oifname "lo" tcp dport {{ {ports} }} accept',
        ]
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
