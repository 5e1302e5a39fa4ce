"""The end of a standby, and what its decider says of it; a shell stands for the decider."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from ringfence.watch.live.standby import Standby
from ringfence.watch.live.terms import STOP, Terms
from ringfence.watch.live.who import Process

SAYS_WHEN_ITS_LINE_ENDS = "echo up; cat; echo lost"
TURNS = 20
"""It is a race: so many ends."""


class Stand:
    """A standby with a decider that says `lost` at the end of its line."""

    def __init__(self) -> None:
        self.watcher, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.report = os.open(os.devnull, os.O_WRONLY)
        self.standby = Standby(
            Terms(-1, control.detach(), self.report, b"", b"", b"", b"", False, True, 2.0,
                  Process.this()), [],
        )  # fmt: skip
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.decider = subprocess.Popen(
            ["sh", "-c", SAYS_WHEN_ITS_LINE_ENDS], stdin=theirs.fileno(), stdout=subprocess.PIPE
        )
        theirs.close()
        assert self.decider.stdout is not None
        assert self.decider.stdout.readline() == b"up\n"
        self.standby._decider, self.standby._line = self.decider.pid, ours
        self.ours = ours

    def said(self) -> bytes:
        """All that the decider said, once it has ended."""
        assert self.decider.stdout is not None
        with self.decider.stdout:
            return self.decider.stdout.read()


@pytest.fixture
def stands(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Stand]]:
    monkeypatch.setattr(Standby, "_start", lambda self: None)
    found = [Stand() for _ in range(TURNS)]
    yield found
    for stand in found:
        stand.decider.kill()
        stand.decider.wait()
        for end in (stand.watcher, stand.ours, stand.standby._control):
            end.close()
        os.close(stand.report)


def test_a_stop_in_order_is_not_told_as_lost(stands: list[Stand]) -> None:
    for stand in stands:
        stand.watcher.send(STOP)
        stand.standby.run()
    assert [stand.said() for stand in stands] == [b""] * TURNS


def test_a_standby_that_dies_is_told(stands: list[Stand]) -> None:
    for stand in stands:
        stand.ours.close()
    assert [stand.said() for stand in stands] == [b"lost\n"] * TURNS
