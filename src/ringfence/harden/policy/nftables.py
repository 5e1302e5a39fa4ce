"""An nftables ruleset for the service's own network namespace: nothing in or out by default.

Language: nft(8). `ringfence run` loads it before the service's first instruction.
"""

from __future__ import annotations

import ipaddress

from ringfence.harden.policy.needs import Needs


def write(needs: Needs) -> str:
    """The ruleset: connections to the declared ports, and to observed destinations."""
    ports = ", ".join(str(port) for port in needs.ports)
    inward = [f"tcp dport {{ {ports} }} ct state new accept"] if ports else []
    outward = [f'oifname "lo" {rule}' for rule in inward]
    for host, port in needs.destinations:
        family = "ip6" if ipaddress.ip_address(host).version == 6 else "ip"
        outward.append(f"{family} daddr {host} tcp dport {port} ct state new accept")
    chains = {"input": inward, "output": outward, "forward": []}
    lines = [f"# {needs.origin}", "table inet ringfence {"]
    for chain, rules in chains.items():
        lines.append(f"  chain {chain} {{")
        lines.append(f"    type filter hook {chain} priority filter; policy drop;")
        if chain != "forward":
            lines.append("    ct state established,related accept")
        lines += [f"    {rule}" for rule in rules]
        lines.append("  }")
    return "\n".join([*lines, "}", ""])
