"""What an nftables ruleset does with a packet that begins something: passes, drops, or not known.

The ruleset is that of `nft --json list ruleset` (libnftables-json(5)). Of a packet its destination,
interface, protocol, port and, where it cannot be forged, its TCP flags and state of connection are
known; what asks for more may hold or not, and then both ways are followed. So a packet is only said
to be dropped where every way ends in a drop. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec

Row = dict[str, Any]
Place = tuple[str, str, str]
"""Family, table and chain."""
HOOKS = ("output", "postrouting", "egress")
FAMILIES = {4: ("inet", "ip", "netdev"), 6: ("inet", "ip6", "netdev")}
NUMBERS = {6: "tcp", 17: "udp"}
TRANSPORT = ("tcp", "udp")
NEUTRAL = ("counter", "log", "set", "continue")
LIMITED = ("limit", "quota", "ct count")
"""Statements that hold for some packets and not for others."""
FLAGS = frozenset({"fin", "syn", "rst", "psh", "ack", "urg"})
"""Those that are known of the first packet of a connection (RFC 9293); not those of RFC 3168."""
TABLE_FLAGS = frozenset({"dormant", "owner", "persist"})
MOST_PORTS, MOST_WORK = 256, 400_000
"""Ports that are told apart; statements and elements of sets that are looked at for an address."""


class End(StrEnum):
    """Where a way through a chain ends."""

    ACCEPT = "accept"
    DROP = "drop"
    THROUGH = "through"
    """At the end of the chain, or back in the one that jumped here."""
    ELSEWHERE = "elsewhere"
    """By a statement that is not followed: it may give the packet another destination."""


class Packet(msgspec.Struct, frozen=True):
    """The first packet of something. `protocol` is `tcp`, `udp`, or '' for every other one;
    `crafted` packets carry whatever flags their sender likes (CAP_NET_RAW)."""

    host: str
    device: str
    protocol: str
    port: int | None
    crafted: bool

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.host else 4


class Ruleset:
    """One network namespace's. `devices` are its interfaces but for loopback."""

    def __init__(self, document: Row, devices: tuple[str, ...]) -> None:
        rows = [row for row in document["nftables"] if isinstance(row, dict)]
        self._awake = {(one["family"], one["name"]): _awake(one) for one in _of(rows, "table")}
        self._devices = devices
        self._base = [one for one in _of(rows, "chain") if one.get("hook") in HOOKS]
        self._rules: dict[Place, list[list[Row]]] = {}
        for one in _of(rows, "rule"):
            place = one["family"], one["table"], one["chain"]
            self._rules.setdefault(place, []).append(one["expr"])
        self._sets = {(one["family"], one["table"], one["name"]): one for one in _of(rows, "set")}
        self._listed: dict[tuple[int, type, object], bool | None] = {}
        """Answers of lists by their identity and what was sought in them."""
        self._left = 0
        """Of the work for one address."""

    def drops(self, host: str, *, crafted: bool) -> bool | None:
        """Whether every packet to this address that begins something is dropped; False where some
        protocol and port surely passes by every interface, None where neither is known."""
        found = []
        self._left = MOST_WORK
        try:
            ports = self._ports()
            for protocol, port in (("", None), *((name, port) for name in TRANSPORT
                                                 for port in ports)):  # fmt: skip
                ends = {self._end(Packet(host, device, protocol, port, crafted))
                        for device in self._devices or ("",)}  # fmt: skip
                found.append(ends.pop() if len(ends) == 1 else None)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            return None  # a form that this does not know, or too much work
        if all(end is End.DROP for end in found):
            return True
        return False if End.ACCEPT in found else None

    def _ports(self) -> tuple[int | None, ...]:
        """One of each kind that the rules tell apart."""
        named: set[int] = set()
        for rules in self._rules.values():
            for statement in (one for rule in rules for one in rule if "match" in one):
                payload = _payload(statement["match"]["left"])
                if payload is not None and payload[1] == "dport":
                    named.update(_integers(statement["match"]["right"]))
        for one in self._sets.values():
            if one.get("type") == "inet_service":
                named.update(_integers(one.get("elem", ())))
        around = {number + step for number in named for step in (-1, 0, 1)} | {1}
        valid = sorted(number for number in around if 0 < number < 1 << 16)
        return tuple(valid) if len(valid) <= MOST_PORTS else (None,)

    def _end(self, packet: Packet) -> End | None:
        """What becomes of one packet; None where that is not known."""
        known: dict[Place, frozenset[End]] = {}
        every = []
        for chain in self._base:
            seen = self._sees(chain, packet)
            if seen is False:
                continue
            place = chain["family"], chain["table"], chain["name"]
            ends = set(self._chain(place, packet, known))
            if End.THROUGH in ends:
                ends.remove(End.THROUGH)
                ends.add(End(chain.get("policy", "accept")))
            if seen is None:
                ends.add(End.ACCEPT)
            every.append(ends)
        if any(End.ELSEWHERE in ends for ends in every):
            return None
        if any(ends == {End.DROP} for ends in every):
            return End.DROP
        return End.ACCEPT if all(ends == {End.ACCEPT} for ends in every) else None

    def _sees(self, chain: Row, packet: Packet) -> bool | None:
        """Whether a base chain sees the packet; None where that is not known.

        Those of type nat may not: they are not run without tracking of connections, nor after one
        of the same hook has set up a translation.
        """
        awake = self._awake.get((chain["family"], chain["table"]), True)
        on = _on(chain, packet)
        if chain["family"] not in FAMILIES[packet.version] or False in (awake, on):
            return False
        return None if None in (awake, on) or chain.get("type") == "nat" else True

    def _chain(
        self, place: Place, packet: Packet, known: dict[Place, frozenset[End]]
    ) -> frozenset[End]:
        """Every end that a packet may find in a chain."""
        if place in known:
            return known[place]
        ends: set[End] = set()
        for rule in self._rules.get(place, ()):
            sure, found = self._rule(rule, place, packet, known)
            ends |= found - {None}  # type: ignore[arg-type]
            if sure and None not in found:
                break
        else:
            ends.add(End.THROUGH)
        known[place] = frozenset(ends)
        return known[place]

    def _rule(
        self, rule: list[Row], place: Place, packet: Packet, known: dict[Place, frozenset[End]]
    ) -> tuple[bool, set[End | None]]:
        """Whether it surely applies, and the ends that it then has; None is the next rule."""
        sure = True
        for statement in rule:
            self._spend(1)
            (kind, body), = statement.items()  # fmt: skip
            if kind == "match":
                holds = self._holds(body, place, packet)
                if holds is False:
                    return True, {None}
                sure = sure and holds is True
            elif kind in LIMITED:
                sure = False
            elif kind == "mangle" and "payload" not in body["key"]:
                continue
            elif kind not in NEUTRAL:
                return sure, self._verdict(kind, body, place, packet, known)
        return sure, {None}

    def _verdict(
        self, kind: str, body: Any, place: Place, packet: Packet, known: dict[Place, frozenset[End]]
    ) -> set[End | None]:
        if kind in ("accept", "snat", "masquerade"):
            return {End.ACCEPT}
        if kind in ("drop", "reject"):
            return {End.DROP}
        if kind == "return":
            return {End.THROUGH}
        if kind in ("jump", "goto"):
            found = self._chain((*place[:2], body["target"]), packet, known)
            if kind == "goto" or End.THROUGH not in found:
                return set(found)
            return {None, *(found - {End.THROUGH})}
        return {End.ELSEWHERE, None}

    # --- matches ---------------------------------------------------------------------------------

    def _holds(self, match: Row, place: Place, packet: Packet) -> bool | None:
        operator, left, right = match["op"], match["left"], match["right"]
        if operator not in ("==", "!=", "in", "!"):
            return False if _absent(_payload(left), packet) else None
        if _absent(_payload(left), packet):
            return False
        flags = _flags(match, packet)
        if flags is not None:
            return _flagged(operator, flags, right)
        value = None if operator == "!" else _value(left, packet)
        found = None if value is None else self._among(right, value, place)
        return not found if operator == "!=" and found is not None else found

    def _among(self, right: Any, value: object, place: Place) -> bool | None:
        """Whether a value is one of those at the right of a match."""
        if isinstance(right, dict):
            if "prefix" in right:
                return _begins(right["prefix"], value)
            if "range" in right:
                first, last = (_like(one, value) for one in right["range"])
                return None if first is None or last is None else bool(first <= value <= last)
            if "elem" in right:
                return self._among(right["elem"]["val"], value, place)
            right = right["set"]
        if isinstance(right, list):
            # Once for each value: many rules may name one set, for many ports.
            asked = id(right), type(value), value
            if asked not in self._listed:
                self._spend(len(right))
                found = {self._among(one, value, place) for one in right}
                self._listed[asked] = True if True in found else None if None in found else False
            return self._listed[asked]
        if isinstance(right, str) and right.startswith("@"):
            named = self._sets[(*place[:2], right[1:])]
            changing = {"dynamic", "timeout"}.intersection(named.get("flags", ()))
            return None if changing else self._among(named.get("elem", []), value, place)
        return _equal(right, value)

    def _spend(self, work: int) -> None:
        self._left -= work
        if self._left < 0:
            raise ValueError("too much work")


def _of(rows: list[Row], kind: str) -> list[Row]:
    return [row[kind] for row in rows if kind in row]


def _awake(table: Row) -> bool | None:
    """Whether a table's chains are run; None where its flags are not words that are known: nft
    1.0.6 writes "t" for dormant."""
    flags = table.get("flags", [])
    words = [flags] if isinstance(flags, str) else flags
    if not isinstance(words, list) or not TABLE_FLAGS.issuperset(words):
        return None
    return "dormant" not in words


def _on(chain: Row, packet: Packet) -> bool | None:
    """Whether a chain sees what leaves by the packet's interface: those of netdev have theirs, and
    nft 1.0.6 does not write which; then it is None."""
    if chain["family"] != "netdev":
        return True
    named = chain.get("dev")
    if not named:
        return None
    return packet.device in ([named] if isinstance(named, str) else named)


def _payload(left: Any) -> tuple[str, str] | None:
    """Header and field that a match looks at."""
    if isinstance(left, dict) and "&" in left:
        left = left["&"][0]
    if not isinstance(left, dict) or "protocol" not in left.get("payload", {}):
        return None
    return left["payload"]["protocol"], left["payload"]["field"]


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _integers(one)
    elif isinstance(value, list):
        for one in value:
            yield from _integers(one)


def _absent(payload: tuple[str, str] | None, packet: Packet) -> bool:
    """Whether the packet has no such header: then a match fails, whatever it asks (nft(8))."""
    header = payload[0] if payload is not None else ""
    if header in ("ip", "ip6"):
        return header != ("ip6" if packet.version == 6 else "ip")
    if packet.protocol:
        return header in (*TRANSPORT, "icmp", "icmpv6", "sctp", "dccp", "udplite", "igmp") and (
            header != packet.protocol)  # fmt: skip
    return header in TRANSPORT


def _flags(match: Row, packet: Packet) -> frozenset[str] | None:
    """TCP flags of the packet under the match's mask, where that asks for them."""
    left = match["left"]
    if packet.crafted or packet.protocol != "tcp" or _payload(left) != ("tcp", "flags"):
        return None
    if match["op"] in ("in", "!") and "&" not in left:
        mask = _named(match["right"])  # some of these, or none
    else:
        mask = _named(left["&"][1]) if "&" in left else None
    return frozenset({"syn"}) & mask if mask is not None and mask <= FLAGS else None


def _named(value: Any) -> frozenset[str] | None:
    if value == 0:
        return frozenset()
    if isinstance(value, dict):
        value = value.get("|")
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list):
        return None
    every = [frozenset({one}) if isinstance(one, str) else _named(one) for one in names]
    return None if None in every else frozenset().union(*every)  # type: ignore[arg-type]


def _flagged(operator: str, flags: frozenset[str], right: Any) -> bool | None:
    wanted = _named(right)
    if wanted is None:
        return None
    if operator in ("in", "!"):
        return bool(flags & wanted) is (operator == "in")
    return (flags == wanted) is (operator == "==")


def _value(left: Any, packet: Packet) -> object | None:
    """What a match looks at, where that is known of the packet."""
    payload = _payload(left)
    if "&" in left:
        return None
    if payload is not None:
        return {
            "daddr": ipaddress.ip_address(packet.host) if payload[0] in ("ip", "ip6") else None,
            "protocol": _Protocol(packet.protocol), "nexthdr": _Protocol(packet.protocol),
            "dport": packet.port if packet.protocol else None,
        }.get(payload[1])  # fmt: skip
    if "meta" in left:
        six = packet.version == 6
        return {
            "oif": packet.device, "oifname": packet.device, "nfproto": "ipv6" if six else "ipv4",
            "protocol": "ip6" if six else "ip", "l4proto": _Protocol(packet.protocol),
        }.get(left["meta"]["key"])  # fmt: skip
    if left.get("ct") == {"key": "state"} and not packet.crafted:
        return "new"
    return None


class _Protocol(str):
    """A protocol's name; '' is any but those of TRANSPORT."""

    __slots__ = ()


def _like(text: Any, value: object) -> Any:
    if isinstance(value, int):
        return text if isinstance(text, int) else None
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return ipaddress.ip_address(text)
    return None


def _begins(prefix: Row, value: object) -> bool | None:
    """Whether an address is in a network."""
    address = _like(prefix["addr"], value)
    if not isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return None
    rest = address.max_prefixlen - prefix["len"]
    same = address.version == value.version and int(address) >> rest == int(value) >> rest
    return bool(same)


def _equal(right: Any, value: object) -> bool | None:
    if isinstance(value, _Protocol):
        name = NUMBERS.get(right, right)
        return name == value if value or name in TRANSPORT else None
    if isinstance(value, str):
        if not isinstance(right, str) or "\\" in right:
            return None
        return value.startswith(right[:-1]) if right.endswith("*") else value == right
    wanted = _like(right, value)
    return None if wanted is None else bool(wanted == value)
