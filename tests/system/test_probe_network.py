"""The network: interfaces, routes and rules in a network namespace of a test's own. No packet
leaves the machine: there is nothing that it could leave by."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from functools import partial

import pytest

from ringfence.collect.seccomp.tables import native_calls
from tests.seccomp import ALLOW, ERRNO, install
from tests.system import acts
from tests.system.conditions import (
    SOMEBODY,
    Step,
    landlock,
    refused,
    refused_with,
    run,
    spaces,
    user,
)
from tests.system.probing import (
    CLOSED,
    INJECT,
    JOIN,
    OPEN,
    UNSUPPORTED,
    Case,
    attempt,
    check,
    standing,
)

pytestmark = pytest.mark.system

EPERM = "seccomp (errno 1, operation not permitted)"
BIND_TCP, CONNECT_TCP = 1, 2
ALONE = (spaces("net"),)
UP = (*ALONE, run("ip", "link", "set", "lo", "up"))
LINKED = (*UP, run("ip", "link", "add", "out0", "type", "veth", "peer", "name", "end0"),
          run("ip", "addr", "add", "198.51.100.2/24", "dev", "out0"),
          run("ip", "addr", "add", "2001:db8:1::2/64", "dev", "out0", "nodad"),
          run("ip", "link", "set", "end0", "up"),
          run("ip", "link", "set", "out0", "up"))  # fmt: skip
"""A pair of interfaces, both in here (veth(4))."""
ROUTED = (*LINKED, run("ip", "route", "add", "default", "via", "198.51.100.1"),
          run("ip", "-6", "route", "add", "default", "dev", "out0"))  # fmt: skip
PORT = 8099
PLACES = {"internet": "192.0.2.1", "private": "10.0.0.1", "metadata": "169.254.169.254",
          "metadata-tasks": "169.254.170.2", "metadata-alibaba": "100.100.100.200",
          "internet-ipv6": "2001:db8::1", "metadata-ipv6": "fd00:ec2::254"}  # fmt: skip


def _rules(text: str) -> Step:
    """nft(8) rules of the network namespace that one is in."""
    return run("nft", "-f", "-", given=text)


def _chain(hook: str, policy: str, *rules: str) -> Step:
    body = "\n".join((f"type filter hook {hook} priority 0; policy {policy};", *rules))
    return _rules(f"table inet t {{ chain c {{ {body}\n}}\n}}\n")


@pytest.mark.parametrize(("name", "host"), PLACES.items())
def test_a_way_out(name: str, host: str) -> None:
    probe = f"network.{name}"
    act = partial(acts.routed, host)
    check(Case(probe, ROUTED, LINKED, "no route", act), Case(probe, ROUTED, UP, "no route", act),
          Case(probe, ROUTED, ALONE, "no route", act),
          Case(probe, ROUTED, (*ROUTED, refused("connect")), EPERM,
               act))  # fmt: skip


def _network(address: str, *rules: Step) -> tuple[Step, ...]:
    """An interface with an address in a network, and no other route; what listens is not asked."""
    return (*UP, run("ip", "link", "add", "net0", "type", "veth", "peer", "name", "net1"),
            run("ip", "link", "set", "net1", "up"), run("ip", "link", "set", "net0", "up"),
            run("ip", "addr", "add", address, "dev", "net0", "nodad"), *rules)  # fmt: skip


@pytest.mark.parametrize("address", ["172.17.0.2/16", "172.17.0.1/16", "fd00:7::1/64"])
def test_neighbours(address: str) -> None:
    """Whoever is in a network of its own, without a default route. The addresses are private."""
    held = _network(address, _chain("output", "drop"))
    for name in ("network.neighbours", "network.private"):
        check(Case(name, _network(address), UP, "no route"),
              Case(name, _network(address), held, "network filter"))  # fmt: skip
    with standing(*_network(address)) as there:
        shown = attempt(there.pid, "network.internet")["network.internet"]
    assert (shown.seen, shown.by) == (CLOSED, "no route")


def test_neighbours_by_the_address_of_a_link() -> None:
    """Every interface with IPv6 has one: it is reached by the number of the interface."""
    check(Case("network.neighbours", _network("fe80::9/64"), UP, "no route"))


def test_a_way_out_that_is_left_to_tcp() -> None:
    """TCP has no way to ask without sending: what is not tried is not closed."""
    names = [f"network.{name}" for name in PLACES]
    datagrams = refused_with("socket", 1, socket.SOCK_DGRAM, mask=0xF)
    with standing(*ROUTED, datagrams) as there:
        shown = attempt(there.pid, *names, "network.mark")
    assert shown.pop("network.mark").seen == OPEN  # whose type of socket does not matter
    assert {one.seen for one in shown.values()} == {UNSUPPORTED}
    with standing(*ROUTED, refused("socket")) as there:
        shown = attempt(there.pid, *names, "network.mark")
    assert {(one.seen, one.by) for one in shown.values()} == {(CLOSED, EPERM)}


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
def test_routes_that_lead_nowhere(kind: str) -> None:
    nowhere = (*LINKED, run("ip", "route", "add", kind, "default"))
    for name in ("internet", "metadata"):
        check(Case(f"network.{name}", ROUTED, nowhere, "no route",
                   partial(acts.routed, PLACES[name])))  # fmt: skip


@pytest.mark.parametrize("name", ["internet", "private", "metadata-ipv6"])
def test_rules_that_drop_what_goes_out(name: str) -> None:
    """A policy of drop; and the same chain with a policy of accept, or a rule that accepts all."""
    probe = f"network.{name}"
    dropping = (*ROUTED, _chain("output", "drop"))
    check(
        Case(probe, (*ROUTED, _chain("output", "accept")), dropping, "network filter"),
        Case(probe, (*ROUTED, _chain("output", "drop", "accept")), dropping, "network filter"),
        Case(probe, (*ROUTED, _chain("input", "drop")), dropping, "network filter"),
    )


BEYOND = (spaces("net"), run("ip", "link", "set", "lo", "up"),
          *(run("ip", "addr", "add", f"{host}/32", "dev", "lo")
            for host in (PLACES["internet"], PLACES["metadata"])))  # fmt: skip
"""A network namespace where the addresses live that a way out leads to."""


def _reached() -> None:
    """Waits until the pair of interfaces carries something: a little after it is up."""
    for _ in range(20):
        with contextlib.suppress(OSError):
            return acts.connected(PLACES["internet"], PORT)
        time.sleep(0.1)
    raise OSError(errno.ETIMEDOUT, "the pair of interfaces carries nothing")


def _towards(pid: int, *rules: Step) -> tuple[Step, ...]:
    """A pair of interfaces into that namespace, and a default route; `rules` are in here."""

    def step() -> None:
        run("ip", "link", "add", "out0", "type", "veth", "peer", "name", f"e{os.getpid()}")()
        run("ip", "link", "set", f"e{os.getpid()}", "netns", str(pid))()
        far = ("nsenter", "-t", str(pid), "-n", "ip")
        run(*far, "link", "set", f"e{os.getpid()}", "up")()
        run(*far, "addr", "replace", "198.51.100.1/24", "dev", f"e{os.getpid()}")()

    return (*UP, step, run("ip", "addr", "add", "198.51.100.2/24", "dev", "out0"),
            run("ip", "link", "set", "out0", "up"),
            run("ip", "route", "add", "default", "via", "198.51.100.1"), _reached,
            *rules)  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "rule", "reached"),
    [("drop", "counter accept", ("internet", "metadata")),
     ("drop", 'oifname "out0" accept', ("internet", "metadata")),
     ("drop", 'oifname "lo" accept', ()), ("drop", "ct state established accept", ()),
     ("drop", "ip daddr 169.254.169.254 accept", ("metadata",)),
     ("accept", "ip daddr 169.254.169.254 drop", ("internet",)),
     ("accept", 'oifname "out0" drop', ()), ("drop", "tcp dport 8099 accept",
                                             ("internet", "metadata"))],
)  # fmt: skip
def test_rules_that_let_something_out(policy: str, rule: str, reached: tuple[str, ...]) -> None:
    """Connections are made for real, to the next network namespace."""
    for name in ("internet", "metadata"):
        act = partial(acts.connected, PLACES[name], PORT)
        filtered = (_chain("output", policy, rule), user(SOMEBODY))
        with (
            standing(*BEYOND, _serve("0.0.0.0")) as far,  # noqa: S104
            standing(*_towards(far.pid, *filtered), act=act) as there,
        ):
            shown = attempt(there.pid, f"network.{name}")[f"network.{name}"]
        assert (shown.seen == OPEN, there.errno == 0) == (name in reached,) * 2, (shown, there)
        if shown.seen != OPEN:
            assert (shown.seen, shown.by) == (CLOSED, "network filter")


def test_rules_that_ask_for_more_are_not_judged() -> None:
    """By which user: neither open nor closed is said."""
    for policy, end in (("drop", "accept"), ("accept", "drop")):
        asked = (*ROUTED, _chain("output", policy, f"meta skuid {SOMEBODY} {end}"))
        with standing(*asked, user(SOMEBODY)) as there:
            shown = attempt(there.pid, "network.metadata")["network.metadata"]
        assert (shown.seen, shown.by) == (UNSUPPORTED, "")
        assert shown.detail.startswith("not known")


# --- loopback ------------------------------------------------------------------------------------


def _serve(host: str = "127.0.0.1") -> Step:
    """A service that takes connections."""

    def step() -> None:
        handle = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        handle.bind((host, PORT))
        handle.listen()
        os.dup(handle.detach())

    return step


REACHED = partial(acts.connected, "127.0.0.1", PORT)


def test_a_service_of_loopback() -> None:
    served = (*UP, _serve())
    check(
        Case("network.loopback-services", served, UP, "nobody listens", REACHED),
        Case("network.loopback-services", served, (*served, refused("connect")), EPERM, REACHED),
        Case(
            "network.loopback-services",
            served,
            (*served, _chain("input", "accept", f"tcp dport {PORT} drop")),
            "network filter",
            REACHED,
        ),
        Case("network.loopback-services", served, (*ALONE, _serve("0.0.0.0")), "no route", REACHED),  # noqa: S104
    )


@pytest.mark.parametrize("host", ["::1", "::", "127.0.0.2"])
def test_a_service_of_another_address(host: str) -> None:
    act = partial(acts.connected, "::1" if host == "::" else host, PORT)
    served = (*UP, _serve(host))
    check(Case("network.loopback-services", served, UP, "nobody listens", act),
          Case("network.loopback-services", served, (*served, refused("connect")), EPERM,
               act))  # fmt: skip


def test_a_service_of_ipv6_alone_is_reached_though_the_other_family_is_refused() -> None:
    """The first of several that is refused does not end the trying."""
    both = (*UP, _serve(), _serve("::1"))
    check(Case("network.loopback-services", (*both, refused_with("socket", 0, socket.AF_INET)),
               (*both, refused("socket")), EPERM,
               partial(acts.connected, "::1", PORT)))  # fmt: skip


def test_a_service_beside_a_landlock_domain() -> None:
    served = (*UP, _serve())
    within = (*served, partial(landlock, 0, CONNECT_TCP))
    check(Case("network.loopback-services", served, within, "Landlock", REACHED, INJECT))
    with standing(*within) as there:
        shown = attempt(there.pid, "network.loopback-services", stance=JOIN)
    assert shown["network.loopback-services"].seen == OPEN


def _bound() -> None:
    with socket.socket() as handle:
        handle.bind(("0.0.0.0", 0))  # noqa: S104 - in a namespace of the test's own


def _listening() -> None:
    with socket.socket() as handle:
        handle.listen()


def test_binding() -> None:
    check(Case("network.bind", UP, (*UP, refused("bind")), EPERM, _bound),
          Case("network.bind", ALONE, (*ALONE, refused("bind")), EPERM, _bound),
          Case("network.bind", UP, (*UP, refused("socket")), EPERM, _bound),
          Case("network.bind", UP, (*UP, partial(landlock, 0, BIND_TCP)), "Landlock", _bound,
               INJECT))  # fmt: skip


def test_listening() -> None:
    """Without an address of loopback, or where bind is refused, only the filter is asked."""
    check(Case("network.listen", UP, (*UP, refused("listen")), EPERM, _listening),
          Case("network.listen", ALONE, (*ALONE, refused("listen")), EPERM, _listening),
          Case("network.listen", (*UP, refused("bind")), (*UP, refused("bind", "listen")), EPERM,
               _listening))  # fmt: skip


def test_datagrams() -> None:
    act = partial(acts.routed, "127.0.0.1")
    check(Case("network.datagrams", UP, ALONE, "no route", act),
          Case("network.datagrams", UP, (*UP, refused("connect")), EPERM,
               act))  # fmt: skip


def _family_only_as(family: int, index: int, value: int) -> Step:
    """A filter that lets sockets of a family through with one argument alone."""
    return lambda: install([
        (0x20, 0, 0, 0), (0x15, 1, 0, native_calls()["socket"]), (0x06, 0, 0, ALLOW),
        (0x20, 0, 0, 16), (0x15, 1, 0, family), (0x06, 0, 0, ALLOW),
        (0x20, 0, 0, 16 + 8 * index), (0x15, 0, 1, value), (0x06, 0, 0, ALLOW),
        (0x06, 0, 0, ERRNO | 1),
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("index", "value"),
    [(1, 0o2000001), (1, 0o4001), (1, 0o2004001), (1, 1), (2, 6)],
    ids=("close-on-exec", "non-blocking", "both", "neither", "named protocol"),
)  # fmt: skip
def test_a_socket_that_passes_in_one_form(index: int, value: int) -> None:
    one = (*UP, _serve(), _family_only_as(socket.AF_INET, index, value))
    with standing(*one) as there:
        shown = attempt(there.pid, "network.bind", "network.loopback-services",
                        "network.datagrams")  # fmt: skip
    assert shown["network.bind"].seen == shown["network.loopback-services"].seen == OPEN, shown
    assert (shown["network.datagrams"].seen, shown["network.datagrams"].by) == (CLOSED, EPERM) or (
        index == 2)  # fmt: skip


def test_a_socket_of_a_protocol_that_was_not_tried_is_not_closed() -> None:
    """And one of which no form passes is."""
    with standing(*UP, _family_only_as(socket.AF_INET, 2, 132)) as there:
        shown = attempt(there.pid, "network.bind")["network.bind"]
    assert (shown.seen, shown.by) == (UNSUPPORTED, "")
    with standing(*UP, _family_only_as(socket.AF_INET, 0, socket.AF_UNIX)) as there:
        shown = attempt(there.pid, "network.bind")["network.bind"]
    assert (shown.seen, shown.by) == (CLOSED, EPERM)


# --- what is in the namespace --------------------------------------------------------------------


def _links() -> None:
    if {name for _, name in socket.if_nameindex()} <= {"lo", "sit0", "tunl0"}:
        raise OSError(19, "only loopback")


def test_interfaces() -> None:
    check(Case("network.interfaces", LINKED, UP, "namespace (net)", _links),
          Case("network.interfaces", LINKED, ALONE, "namespace (net)", _links))  # fmt: skip


SHIM = "\0/containerd-shim/test.sock"


def _shim(others: int = 0) -> Step:
    """A containerd shim's abstract socket, with others listed before it."""

    def step() -> None:
        for number in range(others):
            handle = socket.socket(socket.AF_UNIX)
            handle.bind(f"\0other-{number}")
            os.dup(handle.detach())
        handle = socket.socket(socket.AF_UNIX)
        handle.bind(SHIM)
        handle.listen()
        os.dup(handle.detach())

    return step


def _asked() -> None:
    with socket.socket(socket.AF_UNIX) as handle:
        handle.connect(SHIM)


def test_a_containerd_shim() -> None:
    """CVE-2020-15257: it is reached where the host's network namespace is shared."""
    check(Case("network.containerd-shim", (*ALONE, _shim()), ALONE, "namespace (net)", _asked),
          Case("network.containerd-shim", (*ALONE, _shim(400)), (*ALONE, _shim(400),
               refused("connect")), EPERM, _asked))  # fmt: skip


def test_a_containerd_shim_beside_a_landlock_domain() -> None:
    """A domain that scopes abstract sockets refuses those that were made outside it."""
    shim = (*ALONE, _shim())
    check(
        Case(
            "network.containerd-shim",
            shim,
            (*shim, partial(landlock, scoped=1)),
            "Landlock",
            _asked,
            INJECT,
        )
    )


def _marked() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        handle.setsockopt(socket.SOL_SOCKET, 36, 1)  # SO_MARK


@pytest.mark.parametrize("name", ["CAP_NET_ADMIN", "CAP_NET_RAW"])
def test_marks(name: str) -> None:
    check(Case("network.mark", (user(SOMEBODY, name),), (user(SOMEBODY),),
               "capability CAP_NET_ADMIN", _marked))  # fmt: skip
