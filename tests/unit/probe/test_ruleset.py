"""What a ruleset does with the first packet of something, as nft(8) would have it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ringfence.probe import ruleset
from ringfence.probe.ruleset import Ruleset

METADATA, INTERNET, SIX = "169.254.169.254", "192.0.2.1", "2001:db8::1"
ACCEPT, DROP = {"accept": None}, {"drop": None}


def chain(policy: str = "drop", name: str = "out", **more: object) -> dict[str, Any]:
    base = {"hook": "output", "policy": policy} if name == "out" else {}
    return {"chain": {"family": "inet", "table": "f", "name": name, **base, **more}}


def rule(*statements: dict[str, Any], name: str = "out") -> dict[str, Any]:
    return {"rule": {"family": "inet", "table": "f", "chain": name, "expr": list(statements)}}


def match(left: dict[str, Any], right: object, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def payload(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


def drops(
    *rows: dict[str, Any],
    host: str = INTERNET,
    devices: tuple[str, ...] = ("eth0",),
    crafted: bool = False,
) -> bool | None:
    return Ruleset({"nftables": list(rows)}, devices).drops(host, crafted=crafted)


OUT, TO = {"meta": {"key": "oifname"}}, payload("ip", "daddr")
PORT, STATE, FLAGS = payload("tcp", "dport"), {"ct": {"key": "state"}}, payload("tcp", "flags")


def test_policies() -> None:
    assert drops() is False
    assert drops(chain("accept")) is False
    assert drops(chain("drop")) is True
    assert drops(chain("drop", hook="input")) is False
    assert drops({"table": {"family": "inet", "name": "f", "flags": "dormant"}},
                 chain("drop")) is False  # fmt: skip
    assert drops(chain("drop", family="ip6")) is False
    assert drops(chain("drop", family="ip6"), host=SIX) is True


@pytest.mark.parametrize(
    ("flags", "dropped"),
    [("t", None), ([""], None), (7, None), (["dormant"], False), (["owner"], True), ([], True)],
)  # fmt: skip
def test_a_table_that_may_be_dormant(flags: object, dropped: bool | None) -> None:
    """nft 1.0.6 writes "t" for dormant."""
    table = {"table": {"family": "inet", "name": "f", "flags": flags}}
    assert drops(table, chain("drop")) is dropped
    assert drops(table, chain("accept")) is False
    sure = chain("drop", table="g")
    assert drops(table, chain("drop"), sure) is True


def test_a_chain_of_type_nat_may_be_skipped() -> None:
    nat = chain("drop", type="nat")
    assert drops(nat) is None
    assert drops(chain("accept", type="nat"), rule(DROP)) is None
    assert drops(chain("accept", type="nat"), rule({"masquerade": None})) is False
    assert drops(nat, chain("drop", type="filter", table="g")) is True
    assert drops(chain("drop", type="filter")) is True


def test_a_chain_of_an_interface() -> None:
    """nft 1.0.6 does not write whose it is."""
    egress = {"family": "netdev", "hook": "egress"}
    assert drops(chain("drop", **egress)) is None
    assert drops(chain("accept", **egress)) is False
    assert drops(chain("drop", dev="eth0", **egress)) is True
    assert drops(chain("drop", dev=["eth0", "eth1"], **egress), devices=("eth0", "eth1")) is True
    assert drops(chain("drop", dev="eth1", **egress)) is False
    assert drops(chain("drop", **egress), chain("drop", table="g")) is True


def test_statements_that_only_count_do_not_hide_an_accept() -> None:
    counted = ({"counter": {"packets": 0, "bytes": 0}}, {"log": None}, ACCEPT)
    assert drops(chain("drop"), rule(*counted)) is False
    assert drops(chain("accept"), rule(*counted[:2], DROP)) is True


@pytest.mark.parametrize(
    ("name", "devices", "dropped"),
    [("eth0", ("eth0",), False), ("eth*", ("eth0",), False), ("lo", ("eth0",), True),
     ("eth0", ("eth0", "eth1"), None), ({"set": ["eth0", "eth1"]}, ("eth0", "eth1"), False)],
)  # fmt: skip
def test_an_interface_that_is_accepted(
    name: object, devices: tuple[str, ...], dropped: bool | None
) -> None:
    """Whoever sends may choose among interfaces (SO_BINDTODEVICE, socket(7))."""
    assert drops(chain("drop"), rule(match(OUT, name), ACCEPT), devices=devices) is dropped


@pytest.mark.parametrize(
    "right",
    [METADATA, {"set": ["10.0.0.1", METADATA]}, {"prefix": {"addr": "169.254.0.0", "len": 16}},
     {"range": ["169.254.169.0", "169.254.169.255"]}, "@clouds"],
)  # fmt: skip
def test_each_address_is_judged_by_itself(right: object) -> None:
    clouds = {"set": {"family": "inet", "table": "f", "name": "clouds", "type": "ipv4_addr",
                      "elem": [{"prefix": {"addr": "169.254.0.0", "len": 16}}]}}  # fmt: skip
    shut = (clouds, chain("drop"), rule(match(TO, right), ACCEPT))
    assert drops(*shut, host=METADATA) is False
    assert drops(*shut) is True
    assert drops(*shut, host=SIX) is True
    left_open = (clouds, chain("accept"), rule(match(TO, right), DROP))
    assert drops(*left_open, host=METADATA) is True
    assert drops(*left_open) is False
    assert drops(clouds, chain("drop"), rule(match(TO, right, "!="), ACCEPT), host=SIX) is True


def test_one_port_that_passes_is_enough() -> None:
    assert drops(chain("drop"), rule(match(PORT, 443), ACCEPT)) is False
    assert drops(chain("drop"), rule(match(PORT, {"range": [10, 20]}), ACCEPT)) is False
    assert drops(chain("accept"), rule(match(PORT, 443), DROP)) is False
    every = [rule(match({"meta": {"key": "l4proto"}}, name), DROP) for name in ("tcp", "udp")]
    assert drops(chain("drop"), *every) is True


def test_what_belongs_to_a_connection_does_not_begin_one() -> None:
    known = match(STATE, ["established", "related"], "in")
    assert drops(chain("drop"), rule(known, ACCEPT)) is True
    assert drops(chain("accept"), rule(match(STATE, "new", "in"), DROP)) is True
    later = match({"&": [FLAGS, "syn"]}, 0)
    answer = match({"&": [FLAGS, {"|": ["syn", "ack"]}]}, {"|": ["syn", "ack"]})
    assert drops(chain("drop"), rule(later, ACCEPT), rule(answer, ACCEPT)) is True
    assert drops(chain("drop"), rule(match({"&": [FLAGS, "syn"]}, "syn"), ACCEPT)) is False
    assert drops(chain("drop"), rule(match(FLAGS, "syn", "!"), ACCEPT)) is True
    assert drops(chain("drop"), rule(match(FLAGS, "ack", "!"), ACCEPT)) is False
    assert drops(chain("drop"), rule(match(FLAGS, "syn", "in"), ACCEPT)) is False
    assert drops(chain("drop"), rule(match(FLAGS, ["ack", "rst"], "in"), ACCEPT)) is True
    assert drops(chain("drop"), rule(match(FLAGS, "syn"), ACCEPT)) is None  # ecn and cwr, too
    for one in (known, later):  # unless one can write packets oneself
        assert drops(chain("drop"), rule(one, ACCEPT), crafted=True) is None


def test_jumps_and_returns() -> None:
    jump = rule({"jump": {"target": "sub"}})
    sub = chain(name="sub")
    assert drops(chain("drop"), sub, jump, rule(ACCEPT, name="sub")) is False
    assert drops(chain("drop"), sub, jump, rule({"return": None}, name="sub")) is True
    assert drops(chain("accept"), sub, jump, rule(DROP, name="sub")) is True
    goto = rule({"goto": {"target": "sub"}})
    assert drops(chain("drop"), sub, goto, rule(ACCEPT)) is True


@pytest.mark.parametrize(
    "statement",
    [match({"meta": {"key": "skuid"}}, 1000), match({"meta": {"key": "mark"}}, 1),
     {"limit": {"rate": 3, "per": "second"}}, {"vmap": {"key": TO, "data": {"set": []}}},
     {"xt": None}, {"dnat": {"addr": "10.0.0.2"}}, match(TO, "@gone"), match(TO, {"new": 1})],
)  # fmt: skip
def test_what_is_not_followed_is_not_known(statement: dict[str, Any]) -> None:
    assert drops(chain("drop"), rule(statement, ACCEPT)) is None
    assert drops(chain("accept"), rule(statement, DROP)) is None


def test_every_chain_must_let_it_through() -> None:
    later = chain("drop", hook="postrouting")
    later["chain"]["name"] = "later"
    assert drops(chain("accept"), later) is True
    assert drops(chain("accept"), rule(ACCEPT), later) is True


def large(elements: int) -> dict[str, Any]:
    """A set of addresses from 10.0.0.0 on, each a network of its own."""
    return {"set": {"family": "inet", "table": "f", "name": "large", "type": "ipv4_addr",
                    "elem": [{"prefix": {"addr": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}",
                                         "len": 32}} for n in range(elements)]}}  # fmt: skip


def test_a_large_set_that_many_rules_name_is_searched_once() -> None:
    rules = [rule(match(TO, "@large"), match(PORT, number), DROP) for number in range(1, 600, 7)]
    rows = large(50_000), chain("accept"), *rules
    began = time.process_time()
    assert drops(*rows) is False
    assert drops(*rows, host="10.0.0.7") is False  # other ports
    assert drops(*rows, rule(match(TO, "@large"), DROP), host="10.0.0.7") is True
    assert time.process_time() - began < 20


def test_more_work_than_is_done_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ruleset, "MOST_WORK", 100)
    rows = chain("accept"), rule(match(TO, "@large"), DROP)
    assert drops(large(50), *rows, host="10.0.0.7") is True
    assert drops(large(101), *rows, host="10.0.0.7") is None
    counted = [rule({"counter": None}) for _ in range(101)]
    assert drops(*rows, *counted[:10]) is None  # no such set
    assert drops(chain("drop"), *counted[:10]) is True
    assert drops(chain("drop"), *counted) is None
