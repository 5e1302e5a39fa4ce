"""What is measured as it runs, and what is placed first."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from ringfence.collect.files.directory import read_directory
from ringfence.collect.host.read import read_host
from ringfence.collect.process.tree import processes
from ringfence.knowledge.loader import load
from ringfence.measure.judge import deployment_of
from ringfence.measure.openings import find
from ringfence.model.deployment import Reach
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.facts import Facts, ImageConfig, Target
from ringfence.model.kernel import Firewall, InputChain
from ringfence.model.position import Level
from ringfence.model.process import Listener, Process


@pytest.mark.parametrize(("kind", "zone"), [("host", "system"), ("rootfs", "container")])
def test_a_host_of_which_no_process_was_seen_is_no_image(
    tmp_path: Path, kind: str, zone: str
) -> None:
    facts = Facts(Target(kind, "here"), tree=read_directory(tmp_path, with_elf=False))
    found = deployment_of(facts, load())
    assert found.zones[0].name == zone
    assert bool(found.notes) == (kind == "rootfs")
    assert bool(found.entry_points) == (kind == "rootfs")


@pytest.mark.parametrize(("seen", "grade"), [(True, Grade.OBSERVED), (False, Grade.ASSUMED)])
def test_a_suspected_holder_of_a_socket_is_assumed(seen: bool, grade: Grade) -> None:
    knowledge = load()
    members, _ = processes([os.getpid()], knowledge)
    listener = Listener(
        "tcp", "::", 80, 1, (os.getpid(),), (), Evidence(Grade.OBSERVED, "test"),
        holders_seen=seen,
    )  # fmt: skip
    facts = Facts(Target("host", "here"), members, (listener,))
    (point,) = deployment_of(facts, knowledge).entry_points
    assert point.handler.evidence.grade is grade


def test_a_socket_without_a_known_holder_is_an_entry_point_to_admin() -> None:
    knowledge = load()
    seen = Evidence(Grade.OBSERVED, "/proc/1/net/tcp")
    listener = Listener("tcp", "::", 80, 1, (), (), seen, holders_seen=False)
    facts = Facts(Target("host", "here"), (), (listener,))
    (point,) = deployment_of(facts, knowledge).entry_points
    assert (point.handler.level, point.handler.evidence.grade) == (Level.ADMIN, Grade.ASSUMED)
    assert (point.handler.program, point.handler.pid) == ("", None)


@pytest.mark.parametrize(("network", "near"), [(5, True), (6, False), (None, False)])
def test_the_firewall_of_another_network_holds_no_socket(network: int | None, near: bool) -> None:
    knowledge = load()
    host = read_host(knowledge, [])
    chain = InputChain("input", ("ip", "ip6"), (), True)
    walled = Seen(Firewall((chain,)), Evidence(Grade.OBSERVED, "nft"))
    host = msgspec.structs.replace(host, firewall=walled, network=5)
    seen = Evidence(Grade.OBSERVED, "test")
    listener = Listener("tcp", "::", 80, 1, (), (), seen, holders_seen=False, network=network)
    facts = Facts(Target("host", "here"), (), (listener,), host)
    (point,) = deployment_of(facts, knowledge).entry_points
    assert point.reach is (Reach.NEIGHBOUR if near else Reach.INTERNET)


def test_sockets_that_share_a_port_are_one_entry_point() -> None:
    """As nginx's `reuseport` has them: of all the widest reach, and how many there are."""
    knowledge = load()
    members, _ = processes([os.getpid()], knowledge)

    def at(port: int, inode: int, *, exposed: bool = True) -> Listener:
        seen = Evidence(Grade.OBSERVED, "test", f"tcp :: port {port} listens")
        own = (os.getpid(),)
        return Listener("tcp", "::", port, inode, own, own, seen, exposed=exposed)

    shared = (at(80, 1, exposed=False), at(80, 2), at(443, 3), at(80, 4))
    facts = Facts(Target("host", "here"), members, shared)
    first, second = deployment_of(facts, knowledge).entry_points
    assert (first.id, second.id) == ("tcp:[::]:80", "tcp:[::]:443")
    assert first.reach is second.reach
    assert first.evidence[0].detail == "tcp :: port 80 listens (3 sockets)"
    assert second.evidence[0].detail == "tcp :: port 443 listens"


def _facing(supposed: str, address: str = "::", ports: tuple[str, ...] = ()) -> Facts:
    """This process with a socket for each letter, one that is supposed for each `?`; the second
    and later ones in a network whose firewall lets nobody in."""
    knowledge = load()
    members, _ = processes([os.getpid()], knowledge)
    host = read_host(knowledge, [])
    chain = InputChain("input", ("ip", "ip6"), (), True)
    walled = Seen(Firewall((chain,)), Evidence(Grade.OBSERVED, "nft"))
    host = msgspec.structs.replace(host, firewall=walled, network=5)
    seen = Evidence(Grade.OBSERVED, "test", "listens")
    found = tuple(
        Listener(
            "tcp", address, 80, number, (os.getpid(),), (), seen,
            holders_seen=mark != "?", supposed=mark == "?", network=5 if number else 6,
        )
        for number, mark in enumerate(supposed)
    )  # fmt: skip
    config = ImageConfig("", "", ports, 0, "", Evidence(Grade.DECLARED, "config"))
    return Facts(Target("process", "1"), members, found, host, config=config)


@pytest.mark.parametrize(
    ("sockets", "points"),
    [
        ("?", [("tcp:[::]:80", Reach.INTERNET, True)]),
        ("s", [("tcp:[::]:80", Reach.INTERNET, False)]),
        ("s?", [("tcp:[::]:80", Reach.INTERNET, False)]),
        ("??", [("tcp:[::]:80", Reach.INTERNET, True)]),
        (
            "?s",
            [
                ("tcp:[::]:80:supposed", Reach.INTERNET, True),
                ("tcp:[::]:80", Reach.NEIGHBOUR, False),
            ],
        ),
    ],
)
def test_a_supposed_socket_carries_no_other_one_farther_away(
    sockets: str, points: list[tuple[str, Reach, bool]]
) -> None:
    found = deployment_of(_facing(sockets), load()).entry_points
    assert [(point.id, point.reach, point.supposed) for point in found] == points
    if sockets == "?":
        assert "may be the kernel's own" in found[0].handler.evidence.detail


@pytest.mark.parametrize(
    ("sockets", "ids"),
    [("?", ["tcp:[::]:80", "tcp:443"]), ("s", ["tcp:[::]:80"]), ("", ["tcp:443"])],
)
def test_a_supposed_socket_takes_no_declared_port_away(sockets: str, ids: list[str]) -> None:
    found = deployment_of(_facing(sockets, ports=("443/tcp",)), load()).entry_points
    assert [point.id for point in found] == ids


def test_of_sockets_that_share_a_port_the_most_privileged_handler_counts() -> None:
    knowledge = load()
    (member,), _ = processes([os.getpid()], knowledge)
    own = member.credentials.value
    assert own is not None

    def as_user(pid: int, uid: int) -> Process:
        sets = {name: frozenset[str]() for name in ("effective", "permitted", "inheritable")}
        found = msgspec.structs.replace(own, uid=uid, uids=frozenset((uid,)), **sets)
        return msgspec.structs.replace(
            member, pid=pid, credentials=Seen(found, member.credentials.evidence)
        )

    members = (as_user(11, 1000), as_user(12, 0))
    seen = Evidence(Grade.OBSERVED, "test", "listens")
    shared = tuple(Listener("tcp", "::", 80, pid, (pid,), (pid,), seen) for pid in (11, 12))
    facts = Facts(Target("host", "here"), members, shared)
    (point,) = deployment_of(facts, knowledge).entry_points
    assert (point.handler.level, point.handler.pid) == (Level.ADMIN, 12)


@pytest.mark.parametrize(
    ("context", "expected"),
    [("any", Reach.NEIGHBOUR), ("3", Reach.NEIGHBOUR), ("1", Reach.LOCAL)],
)
def test_a_socket_of_virtual_machines_is_reached_from_beside(context: str, expected: Reach) -> None:
    seen = Evidence(Grade.OBSERVED, "/proc/1/fd/3")
    listener = Listener("vsock", context, 18604, 1, (), (), seen, holders_seen=False)
    facts = Facts(Target("host", "here"), (), (listener,))
    knowledge = load()
    (point,) = deployment_of(facts, knowledge).entry_points
    assert (point.id, point.reach) == (f"vsock:{context}:18604", expected)
    found = find(deployment_of(facts, knowledge), knowledge).open
    assert {f"{point.id}.leak", f"{point.id}.execution"} <= {vector.id for vector in found}
