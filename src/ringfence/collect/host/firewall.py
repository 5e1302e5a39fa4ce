"""Which ports a default-deny firewall lets in, from `nft -j list ruleset` (libnftables-json(5)).

Errs towards open: a condition that is not understood is taken as no condition, and a chain that
hands on to others (jump, verdict map) as one that may accept everything.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ringfence.collect.host.ask import asked
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.kernel import Acceptance, Firewall, InputChain

SOURCE = "nft list ruleset"
ANY = (0, 65535)
FAMILIES = {"ip": ("ip",), "ip6": ("ip6",), "inet": ("ip", "ip6")}
_REFUSALS = {"drop", "reject"}
_HANDS_ON = {"jump", "goto", "vmap", "queue", "xt"}
_NEAR = {"saddr", "iif", "iifname", "iifgroup"}


def firewall() -> Seen[Firewall]:
    """The input chains of Ringfence's own network namespace that refuse what they do not name."""
    answer = asked(["nft", "-j", "list", "ruleset"])
    if isinstance(answer, Evidence):
        return Seen(None, answer)
    try:
        found = read_ruleset(json.loads(answer))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Seen(None, Evidence(Grade.ASSUMED, SOURCE, f"is not understood: {error}"))
    detail = f"{len(found.chains)} input chain(s) refuse what they do not name"
    return Seen(found, Evidence(Grade.OBSERVED, SOURCE, detail))


def read_ruleset(document: dict[str, Any]) -> Firewall:
    """The firewall of a ruleset as nft prints it in JSON."""
    rows = [row for row in document["nftables"] if isinstance(row, dict)]
    rules: dict[tuple[str, str, str], list[list[Any]]] = {}
    for row in rows:
        if "rule" in row:
            rule = row["rule"]
            key = (rule["family"], rule["table"], rule["chain"])
            rules.setdefault(key, []).append(rule.get("expr", []))
    chains = []
    for row in rows:
        chain = row.get("chain", {})
        if chain.get("hook") != "input" or chain.get("family") not in FAMILIES:
            continue
        own = rules.get((chain["family"], chain["table"], chain["name"]), [])
        if chain.get("policy") == "drop" or (own and _refuses_rest(own[-1])):
            chains.append(_chain(chain, own))
    return Firewall(tuple(chains))


def _refuses_rest(expressions: list[Any]) -> bool:
    """Whether a rule refuses whatever comes to it: no condition, only counting beside it."""
    words = {word for item in expressions for word in item}
    return bool(words & _REFUSALS) and words <= _REFUSALS | {"counter", "log"}


def _chain(chain: dict[str, Any], rules: list[list[Any]]) -> InputChain:
    accepted: list[Acceptance] = []
    followed = True
    for expressions in rules:
        words = {word for item in expressions for word in item}
        followed = followed and not words & _HANDS_ON
        if "accept" in words:
            accepted += _accepted(expressions)
    name = f"{chain['family']} {chain['table']} {chain['name']}"
    return InputChain(name, FAMILIES[chain["family"]], tuple(accepted), followed)


class _Rule(msgspec.Struct):
    """What the conditions of an accepting rule have said so far."""

    protocol: str = ""
    ports: tuple[tuple[int, int], ...] = (ANY,)
    near: bool = False
    matters: bool = True


def _accepted(expressions: list[Any]) -> list[Acceptance]:
    """What one accepting rule lets in; nothing for answers, for loopback and for ICMP."""
    rule = _Rule()
    for item in expressions:
        match = item.get("match") if isinstance(item, dict) else None
        if match is not None and match.get("op") in ("==", "in"):
            _apply(match["left"], match["right"], rule)
    if not rule.matters:
        return []
    return [Acceptance(rule.protocol, low, high, not rule.near) for low, high in rule.ports]


def _apply(left: Any, right: Any, rule: _Rule) -> None:
    payload, meta, tracked = (left.get(word, {}) for word in ("payload", "meta", "ct"))
    field = payload.get("field") or meta.get("key") or tracked.get("key")
    if field == "dport":
        rule.protocol = payload["protocol"] if payload["protocol"] in ("tcp", "udp") else ""
        rule.ports = _ports(right)
    elif field in ("l4proto", "protocol", "nexthdr"):
        _protocol(right, rule)
    elif payload.get("protocol", "").startswith("icmp"):
        rule.matters = False
    elif field == "state":
        states = _members(right)
        rule.matters = rule.matters and ("new" in states or "untracked" in states)
    elif field in _NEAR:
        rule.near = True
        rule.matters = rule.matters and right != "lo"


def _protocol(right: Any, rule: _Rule) -> None:
    names = {str(name) for name in _members(right)}
    if names and all(name.startswith(("icmp", "ipv6-icmp", "igmp")) for name in names):
        rule.matters = False
    elif len(names) == 1 and names <= {"tcp", "udp"}:
        rule.protocol = names.pop()


def _members(right: Any) -> list[Any]:
    if isinstance(right, dict) and isinstance(right.get("set"), list):
        return list(right["set"])
    return list(right) if isinstance(right, list) else [right]


def _ports(right: Any) -> tuple[tuple[int, int], ...]:
    """Ranges of ports; a named set or anything else that is not spelled out is every port."""
    found = []
    for member in _members(right):
        if isinstance(member, int):
            found.append((member, member))
        elif isinstance(member, dict) and isinstance(member.get("range"), list):
            low, high = member["range"]
            found.append((int(low), int(high)))
        else:
            return (ANY,)
    return tuple(found)
