"""Rulesets as nft prints them: what is let in, and what errs towards open."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.collect.host.firewall import read_ruleset
from ringfence.model.kernel import Acceptance, Firewall

DPORT = {"payload": {"protocol": "tcp", "field": "dport"}}


def match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def ruleset(*rules: list[Any], policy: str = "drop", family: str = "inet") -> Firewall:
    place = {"family": family, "table": "t"}
    chain = {"chain": {**place, "name": "in", "hook": "input", "policy": policy}}
    rows = [{"rule": {**place, "chain": "in", "expr": rule}} for rule in rules]
    return read_ruleset({"nftables": [{"metainfo": {}}, chain, *rows]})


def accepted(*expressions: Any) -> tuple[Acceptance, ...]:
    (chain,) = ruleset([*expressions, {"accept": None}]).chains
    assert chain.followed
    return chain.accepted


@pytest.mark.parametrize(
    ("right", "ranges"),
    [(22, [(22, 22)]), ({"set": [22, {"range": [80, 90]}]}, [(22, 22), (80, 90)]),
     ({"range": [1, 5]}, [(1, 5)]), ("@open_ports", [(0, 65535)]), ("ssh", [(0, 65535)])],
)  # fmt: skip
def test_ports(right: Any, ranges: list[tuple[int, int]]) -> None:
    found = accepted(match(DPORT, right))
    assert [(rule.low, rule.high) for rule in found] == ranges
    assert all(rule.everyone and rule.protocol == "tcp" for rule in found)


def test_answers_loopback_and_icmp_let_nothing_new_in() -> None:
    assert accepted(match({"ct": {"key": "state"}}, ["established", "related"], "in")) == ()
    assert accepted(match({"meta": {"key": "iifname"}}, "lo")) == ()
    assert accepted(match({"meta": {"key": "l4proto"}}, {"set": ["icmp", "ipv6-icmp"]})) == ()
    assert len(accepted(match({"ct": {"key": "state"}}, "new"))) == 1


def test_an_address_or_interface_is_not_everyone() -> None:
    source = match({"payload": {"protocol": "ip", "field": "saddr"}}, "10.0.0.1")
    assert not accepted(source, match(DPORT, 22))[0].everyone
    assert not accepted(match({"meta": {"key": "iifname"}}, "eth1"))[0].everyone


def test_what_is_not_understood_counts_as_no_condition() -> None:
    odd = match({"osf": {"key": "name"}}, "Linux")
    assert accepted(odd) == (Acceptance("", 0, 65535, True),)
    assert accepted(match(DPORT, 22, "!=")) == (Acceptance("", 0, 65535, True),)


@pytest.mark.parametrize("word", ["jump", "goto", "vmap", "queue", "xt"])
def test_a_chain_that_hands_on_is_not_followed(word: str) -> None:
    (chain,) = ruleset([{word: {"target": "x"}}]).chains
    assert not chain.followed


def test_which_chains_refuse() -> None:
    assert not ruleset(policy="accept").chains
    assert len(ruleset([{"counter": {}}, {"reject": None}], policy="accept").chains) == 1
    assert not ruleset([match(DPORT, 22), {"drop": None}], policy="accept").chains
    assert ruleset(family="ip").chains[0].families == ("ip",)
    assert not ruleset(family="bridge").chains
