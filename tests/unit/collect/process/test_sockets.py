"""Listening sockets whose holders do not show what they hold."""

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
