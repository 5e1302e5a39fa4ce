"""A port behind a firewall rule: real nftables and a real listener in a namespace of our own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from tests.system.conftest import program

pytestmark = pytest.mark.system

LISTEN = (
    "import socket, sys, time\n"
    "for host, port in (('0.0.0.0', 8081), ('0.0.0.0', 8082), ('0.0.0.0', 8083)):\n"
    "    s = socket.socket(); s.bind((host, port)); s.listen(); globals()[f's{port}'] = s\n"
    "print('ready', flush=True); time.sleep(600)\n"
)
DENY = """
table inet fence {
  chain extra { }
  chain input {
    type filter hook input priority 0; policy %s;
    iifname "lo" accept
    ct state established,related accept
    tcp dport { 8081, 9000-9005 } accept
    ip saddr 10.0.0.0/8 tcp dport 8082 accept
    %s
  }
}
"""


@pytest.fixture
def space() -> Iterator[str]:
    """A network namespace with an interface beside loopback."""
    name = f"rf{uuid.uuid4().hex[:8]}"
    ip = program("ip")
    program("nft")
    subprocess.run([ip, "netns", "add", name], check=True)
    try:
        for words in (
            "link set lo up",
            "link add d0 type veth peer d1",
            "link set d0 up",
        ):
            subprocess.run([ip, "-n", name, *words.split()], check=True)
        yield name
    finally:
        subprocess.run([ip, "netns", "delete", name], check=True)


def inside(space: str, *words: str) -> list[str]:
    return [program("ip"), "netns", "exec", space, *words]


def reaches(space: str, rules: str) -> dict[int, str]:
    """Port -> reach, as Ringfence reports it inside the namespace under these rules."""
    subprocess.run(inside(space, program("nft"), "flush", "ruleset"), check=True)
    subprocess.run(inside(space, program("nft"), "-f", "-"), input=rules, text=True, check=True)
    listener = subprocess.Popen(
        inside(space, sys.executable, "-c", LISTEN), stdout=subprocess.PIPE, text=True
    )
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        done = subprocess.run(
            inside(space, sys.executable, "-m", "ringfence", "measure", str(listener.pid),
                   "--format", "json", "--no-plan"),
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        listener.kill()
        listener.communicate()
    points = json.loads(done.stdout)["entry_points"]
    return {point["port"]: point["reach"] for point in points}


def test_without_rules_everybody_reaches_every_port(space: str) -> None:
    assert reaches(space, "") == {8081: "internet", 8082: "internet", 8083: "internet"}


def test_a_default_deny_chain_lets_in_what_it_names(space: str) -> None:
    expected = {8081: "internet", 8082: "adjacent", 8083: "neighbour"}
    assert reaches(space, DENY % ("drop", "")) == expected
    assert reaches(space, DENY % ("accept", "counter reject")) == expected


def test_a_chain_that_accepts_the_rest_refuses_nothing(space: str) -> None:
    found = reaches(space, DENY % ("accept", ""))
    assert set(found.values()) == {"internet"}


def test_chains_that_are_not_followed_are_taken_as_open(space: str) -> None:
    found = reaches(space, DENY % ("drop", "jump extra"))
    assert found == {8081: "internet", 8082: "internet", 8083: "internet"}


def test_the_kernel_agrees(space: str) -> None:
    """The rules do what the report says: tried over a pair of interfaces of our own."""
    ip = program("ip")
    other = f"{space}b"
    subprocess.run([ip, "netns", "add", other], check=True)
    try:
        for words in (
            (
                "-n",
                space,
                "link",
                "add",
                "v0",
                "type",
                "veth",
                "peer",
                "name",
                "v1",
                "netns",
                other,
            ),
            ("-n", space, "addr", "add", "192.0.2.1/24", "dev", "v0"),
            ("-n", other, "addr", "add", "192.0.2.2/24", "dev", "v1"),
            ("-n", space, "link", "set", "v0", "up"),
            ("-n", other, "link", "set", "v1", "up"),
        ):
            subprocess.run([ip, *words], check=True)
        subprocess.run(inside(space, program("nft"), "-f", "-"), input=DENY % ("drop", ""),
                       text=True, check=True)  # fmt: skip
        listener = subprocess.Popen(
            inside(space, sys.executable, "-c", LISTEN), stdout=subprocess.PIPE, text=True
        )
        try:
            assert listener.stdout is not None
            listener.stdout.readline()
            tried = {port: connects(other, port) for port in (8081, 8082, 8083)}
        finally:
            listener.kill()
            listener.communicate()
    finally:
        subprocess.run([ip, "netns", "delete", other], check=True)
    assert tried == {8081: True, 8082: False, 8083: False}


def connects(space: str, port: int) -> bool:
    code = (
        "import socket, sys\ns = socket.socket(); s.settimeout(0.7)\n"
        f"sys.exit(s.connect_ex(('192.0.2.1', {port})) != 0)"
    )
    return subprocess.run(inside(space, sys.executable, "-c", code), check=False).returncode == 0


def test_rules_of_another_namespace_say_nothing(space: str) -> None:
    """Measured from outside, a listener in the namespace is not judged by our own firewall."""
    subprocess.run(inside(space, program("nft"), "-f", "-"), input=DENY % ("drop", ""),
                   text=True, check=True)  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))  # noqa: S104 - what is measured
        probe.listen()
        done = subprocess.run(
            [sys.executable, "-m", "ringfence", "measure", str(os.getpid()), "--format", "json",
             "--no-plan"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        port = probe.getsockname()[1]
    points = {point["port"]: point["reach"] for point in json.loads(done.stdout)["entry_points"]}
    assert points[port] == "internet"
