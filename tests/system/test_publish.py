"""Published ports: what a connection through one gives, beside what it gives without."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from ringfence.run import carry, publish
from ringfence.run.publish import Published, Publisher
from tests.system.conftest import free_port

pytestmark = pytest.mark.system
WAIT, MOST = 20, 64 << 20


@pytest.fixture
def inside() -> Iterator[socket.socket]:
    """Where the service listens: this network namespace, which the publisher joins."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT)
        yield listener


@pytest.fixture
def port(inside: socket.socket) -> Iterator[int]:
    """The published port."""
    found = free_port()
    publisher = Publisher((Published("127.0.0.1", found, inside.getsockname()[1]),))
    publisher.serve(os.getpid())
    yield found
    publisher.close()


@contextlib.contextmanager
def joined(port: int, inside: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's socket and the one that the service accepted for it."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
        server, _ = inside.accept()
        with server:
            server.settimeout(WAIT)
            yield client, server


def received(peer: socket.socket) -> bytes:
    """All until its end."""
    parts = []
    while part := peer.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def sent(peer: socket.socket, data: bytes, seed: int) -> None:
    """Everything, in pieces of all sizes, and the end of this direction."""
    draw = random.Random(seed)
    view = memoryview(data)
    while view:
        size = draw.choice((1, 100, 1 << 12, 1 << 16, 1 << 20))
        peer.sendall(view[:size])
        view = view[size:]
    peer.shutdown(socket.SHUT_WR)


def as_much_as_goes(peer: socket.socket, most: int = MOST) -> bytes:
    """What could be sent while nobody reads."""
    data = random.Random(5).randbytes(most)
    count = 0
    peer.setblocking(False)
    while count < most and select.select([], [peer], [], 0.3)[1]:
        count += peer.send(data[count : count + (1 << 20)])
    peer.settimeout(WAIT)
    return data[:count]


def test_both_directions_at_once_bring_each_byte_in_its_order(
    port: int, inside: socket.socket
) -> None:
    there, back = random.Random(1).randbytes(9_000_001), random.Random(2).randbytes(7_000_003)
    with joined(port, inside) as (client, server):
        senders = [threading.Thread(target=sent, args=(client, there, 3)),
                   threading.Thread(target=sent, args=(server, back, 4))]  # fmt: skip
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(received(server)))
        for thread in (*senders, reader):
            thread.start()
        answer = received(client)
        for thread in (*senders, reader):
            thread.join()
    assert hashlib.sha256(answer).digest() == hashlib.sha256(back).digest()
    assert hashlib.sha256(found[0]).digest() == hashlib.sha256(there).digest()


def test_an_answer_comes_whole_after_both_have_ended(port: int, inside: socket.socket) -> None:
    # Somewhere among these sizes the kernel's buffers are full to the last bytes, which are ours.
    for size in range(20 << 10, 8 << 20, 40 << 10):
        with joined(port, inside) as (client, server):
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert received(server) == b"question"
            answer = as_much_as_goes(server, size)
            server.close()
            time.sleep(0.01)
            assert received(client) == answer


def test_who_reads_slowly_slows_the_sender(port: int, inside: socket.socket) -> None:
    with joined(port, inside) as (client, server):
        data = as_much_as_goes(client)
        # What the kernel's buffers take, and ours; the rest waits with its sender.
        assert len(data) < MOST
        client.shutdown(socket.SHUT_WR)
        assert received(server) == data


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_reset_goes_through(port: int, inside: socket.socket, first: str) -> None:
    with joined(port, inside) as (client, server):
        ends = {"client": client, "server": server}
        client.sendall(b"begun")
        assert server.recv(5) == b"begun"
        ended = ends.pop(first)
        ended.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ended.close()
        (other,) = ends.values()
        with contextlib.suppress(ConnectionResetError):
            assert other.recv(1) == b""


def test_nobody_inside_cuts_the_connection_off(port: int, inside: socket.socket) -> None:
    inside.close()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client,
        contextlib.suppress(ConnectionResetError, BrokenPipeError),
    ):
        client.sendall(b"anybody?")
        assert client.recv(1) == b""


def test_many_connections_do_not_see_each_other_s_bytes(port: int, inside: socket.socket) -> None:
    def echo(peer: socket.socket) -> None:
        with peer:
            peer.sendall(received(peer))

    def serve() -> None:
        for _ in range(100):
            threading.Thread(target=echo, args=(inside.accept()[0],)).start()

    threading.Thread(target=serve, daemon=True).start()
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WAIT))
            for _ in range(100)
        ]
        for number, client in enumerate(clients):
            client.sendall(bytes([number]) * 100_000)
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        for number, client in enumerate(clients):
            assert received(client) == bytes([number]) * 100_000


def test_who_comes_when_there_is_no_room_waits_for_it(
    inside: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MOST", 3)
    found = free_port()
    publisher = Publisher((Published("127.0.0.1", found, inside.getsockname()[1]),))
    publisher.serve(os.getpid())
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", found), timeout=WAIT))
            for _ in range(5)
        ]
        servers = [stack.enter_context(inside.accept()[0]) for _ in range(3)]
        assert not select.select([inside], [], [], 0.5)[0], "there is room for three"
        for turn in range(2):
            clients[turn].close()
            servers[turn].close()
            servers.append(stack.enter_context(inside.accept()[0]))
        clients[4].sendall(b"at last")
        assert servers[4].recv(7) == b"at last"
    publisher.close()


def test_a_client_that_stays_when_the_service_has_ended_is_cut_off(
    port: int, inside: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carry, "LINGER", 0.5)
    with joined(port, inside) as (client, server):
        server.sendall(b"all")
        server.shutdown(socket.SHUT_WR)
        assert client.recv(3) == b"all"
        assert client.recv(1) == b""
        client.sendall(b"still here")
        assert server.recv(10) == b"still here"
        with contextlib.suppress(ConnectionResetError):
            assert server.recv(1) == b"", "the service is told, too"


def test_descriptors_are_given_back(port: int, inside: socket.socket) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for turn in range(50):
        with joined(port, inside) as (client, server):
            client.sendall(b"x")
            assert server.recv(1) == b"x"
            (client, server)[turn % 2].close()
    deadline = time.monotonic() + WAIT
    while count() > before + 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count() <= before + 3
