"""The firewall of a fence, loaded in network namespaces of ours: who can connect to whom."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ringfence.harden.policy.nftables import write
from tests.system.conftest import program
from tests.unit.harden.test_policies import NEEDS

pytestmark = pytest.mark.system

SERVER = """
import socket, sys, threading
def serve(port):
    door = socket.create_server(("0.0.0.0", port))
    while True:
        peer, _ = door.accept(); peer.sendall(b"hello"); peer.close()
for port in map(int, sys.argv[1:]):
    threading.Thread(target=serve, args=(port,)).start()
print("up", flush=True)
"""
CLIENT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.5) as peer:
        print(peer.recv(9).decode())
except OSError as error:
    print("refused")
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two namespaces joined by a cable: the fenced one is 192.0.2.1, the other 192.0.2.2."""
    ip, names = program("ip"), ("rf-fenced", "rf-other")
    for name in names:
        subprocess.run([ip, "netns", "add", name], check=True)
    try:
        subprocess.run([ip, "link", "add", "rfa", "netns", names[0], "type", "veth", "peer", "name",
                        "rfb", "netns", names[1]], check=True)  # fmt: skip
        for name, link, address in zip(
            names, ("rfa", "rfb"), ("192.0.2.1", "192.0.2.2"), strict=True
        ):
            for words in (["addr", "add", f"{address}/24", "dev", link],
                          ["link", "set", link, "up"],
                          ["link", "set", "lo", "up"]):  # fmt: skip
                subprocess.run([ip, "-n", name, *words], check=True)
        yield names
    finally:
        for name in names:
            subprocess.run([ip, "netns", "delete", name], check=False)


def inside(name: str, *words: str) -> list[str]:
    return [program("ip"), "netns", "exec", name, *words]


def test_only_declared_ports_and_destinations_connect(
    hosts: tuple[str, str], tmp_path: Path
) -> None:
    fenced, other = hosts
    needs = msgspec.structs.replace(NEEDS, ports=(8080,), destinations=(("192.0.2.2", 5432),))
    (tmp_path / "rules").write_text(write(needs))
    subprocess.run(inside(fenced, program("nft"), "-f", str(tmp_path / "rules")), check=True)
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "client.py").write_text(CLIENT)
    servers = [
        subprocess.Popen(
            inside(name, "python3", str(tmp_path / "server.py"), *ports), stdout=subprocess.PIPE
        )
        for name, ports in ((fenced, ("8080", "9090")), (other, ("5432", "9090")))
    ]
    try:
        for server in servers:
            assert server.stdout is not None
            server.stdout.readline()

        def ask(name: str, address: str, port: int) -> str:
            words = inside(name, "python3", str(tmp_path / "client.py"), address, str(port))
            return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

        assert ask(other, "192.0.2.1", 8080) == "hello", "the declared port, from outside"
        assert ask(fenced, "127.0.0.1", 8080) == "hello", "and from the publisher inside"
        assert ask(fenced, "192.0.2.2", 5432) == "hello", "the declared destination"
        assert ask(other, "192.0.2.1", 9090) == "refused", "another port"
        assert ask(fenced, "127.0.0.1", 9090) == "refused", "another port on loopback"
        assert ask(fenced, "192.0.2.2", 9090) == "refused", "another destination"
    finally:
        for server in servers:
            server.kill()
            server.communicate()
