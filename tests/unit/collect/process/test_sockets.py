"""Listening sockets: holders that do not show them, and names that users chose to mislead."""

from __future__ import annotations

import os
import socket

import pytest

from ringfence.collect.process import sockets


def _hidden(pid: int) -> sockets.Holding:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("whole_host", [True, False])
def test_only_of_a_whole_host_hidden_processes_are_suspected(
    monkeypatch: pytest.MonkeyPatch, whole_host: bool
) -> None:
    monkeypatch.setattr(sockets, "_holding", _hidden)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found, unseen = sockets.listeners([os.getpid()], whole_host=whole_host)
    ours = [item for item in found if item.kind == "tcp" and item.port == port]
    suspected = [((os.getpid(),), False)] if whole_host else []
    assert [(item.holders, item.holders_seen) for item in ours] == suspected
    assert [item.why for item in unseen] == ["permission denied"]


DEV = b"""Inter-|   Receive                            |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
"""


def _dev(monkeypatch: pytest.MonkeyPatch, *names: bytes) -> bool:
    rows = b"".join(b"%6s:       0       0    0\n" % name for name in names)
    monkeypatch.setattr(sockets.procfs, "read", lambda pid, name: DEV + rows)
    return sockets._has_interface(1)


@pytest.mark.parametrize("name", [b"l\xff", b"lo\x1c", b"lo\x85", b"\x1elo", b"eth0"])
def test_an_interface_may_have_any_name(monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    assert _dev(monkeypatch, b"lo", name)


def test_loopback_alone_is_no_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _dev(monkeypatch, b"lo")
    assert not _dev(monkeypatch)
