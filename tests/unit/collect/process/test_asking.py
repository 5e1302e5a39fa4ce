"""Sockets that are asked by a copy of their descriptor."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ringfence.collect.process.asking import Taking, ask
from ringfence.collect.process.sockets import listeners


def _asked(one: socket.socket) -> Taking | None:
    return ask(os.getpid(), one.fileno(), os.fstat(one.fileno()).st_ino)


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_socket_takes_what_comes_from_when_it_listens(
    family: socket.AddressFamily, address: str
) -> None:
    with socket.socket(family) as one:
        assert _asked(one) is None
        one.bind((address, 0))
        assert _asked(one) is None
        one.listen()
        assert _asked(one) == Taking("tcp", address, one.getsockname()[1])
        with socket.create_connection(one.getsockname()[:2]) as other:
            assert _asked(other) is None


def test_datagrams_are_taken_by_what_is_bound_and_not_connected() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        assert _asked(one) is None
        one.bind(("127.0.0.1", 0))
        assert _asked(one) == Taking("udp", "127.0.0.1", one.getsockname()[1])
        one.connect(("127.0.0.1", 9))
        assert _asked(one) is None


def test_unix_sockets(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        one.bind(f"{tmp_path}/s")
        assert _asked(one) is None
        one.listen()
        assert _asked(one) == Taking("unix", "", None, f"{tmp_path}/s".encode())
        other.bind(b"\0%d" % os.getpid())
        other.listen()
        assert _asked(other) == Taking("unix", "", None, b"@%d" % os.getpid())


@pytest.mark.skipif(not Path("/dev/vsock").exists(), reason="no AF_VSOCK here")
def test_sockets_of_virtual_machines() -> None:
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as one:
        assert _asked(one) is None
        one.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        assert _asked(one) is None
        one.listen()
        port = one.getsockname()[1]
        assert _asked(one) == Taking("vsock", "any", port)
        found, unseen = listeners([os.getpid()])
        assert [item.port for item in found if item.kind == "vsock"] == [port]
        assert not any("VSOCK" in item.what for item in unseen)


def test_a_descriptor_that_leads_elsewhere_by_now_is_not_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        number, inode = one.fileno(), os.fstat(one.fileno()).st_ino
        assert ask(os.getpid(), number, inode + 1) is None
        assert ask(os.getpid(), number, inode) is not None
    assert ask(os.getpid(), number, inode) is None


def test_what_cannot_be_asked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: int, flags: int = 0) -> int:
        raise PermissionError(1, "Operation not permitted")

    with socket.create_server(("127.0.0.1", 0)) as one:
        monkeypatch.setattr(os, "pidfd_open", refused)
        with pytest.raises(PermissionError):
            _asked(one)
