"""The end of a standby, and what its decider says of it; a shell stands for the decider."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator

import msgspec
import pytest

from ringfence.watch.live import fanotify
from ringfence.watch.live.standby import Standby
from ringfence.watch.live.terms import ALIVE, READY, STOP, Said, Terms, decoder
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
        if stand.decider.stdout is not None:
            stand.decider.stdout.close()
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


def test_an_error_ends_a_decider_only_where_all_is_to_be_allowed(
    stands: list[Stand], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Standby) -> bool:
        raise ValueError("nobody foresaw it")

    monkeypatch.setattr(Standby, "_turn", fails)
    for stand, deny in zip(stands, (True, False), strict=False):
        stand.standby._terms = msgspec.structs.replace(stand.standby._terms, deny=deny)
        with pytest.raises(ValueError, match="nobody foresaw it"):
            stand.standby.run()
        assert (stand.decider.poll() is None) is deny


def test_a_process_that_cannot_be_made_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise BlockingIOError(11, "no more processes")

    watcher, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    hears, says = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    terms = Terms(-1, control.detach(), says.fileno(), b"", b"", b"", b"", False, True, 2.0,
                  Process.this())  # fmt: skip
    standby = Standby(terms, [])
    monkeypatch.setattr(os, "fork", refused)
    standby._start()
    said = decoder.decode(hears.recv(1000))
    assert said == Said("gone", "another cannot be started: resource temporarily unavailable")
    assert standby._line is None, "so another start is due after a pause"
    for end in (watcher, standby._control, hears, says):
        end.close()


def test_what_fails_in_a_standby_is_denied_and_the_next_question_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    answers: list[tuple[int, int]] = []

    def question(self: Standby, fd: int, pid: int, until: float, *, executed: bool) -> None:
        asked.append(pid)
        if pid == 1:
            raise ValueError("nobody foresaw it")

    monkeypatch.setattr(Standby, "_question", question)
    monkeypatch.setattr(fanotify, "answer", lambda group, fd, how: answers.append((fd, how)))
    handles = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    events = b"".join(
        struct.pack("=IBBHQii", 24, 3, 0, 24, fanotify.OPEN_PERM, fd, pid)
        for pid, fd in enumerate(handles, 1)
    )
    reading, writing = os.pipe()
    os.write(writing, events)
    watcher, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    standby = Standby(
        Terms(reading, control.detach(), writing, b"", b"", b"", b"", False, True, 2.0,
              Process.this()), [],
    )  # fmt: skip
    standby._questions()
    assert asked == [1, 2]
    assert answers == [(handles[0], fanotify.DENY)]
    for handle in handles:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handle)
    os.close(reading)
    os.close(writing)
    watcher.close()
    standby._control.close()


@pytest.mark.parametrize("ready", [True, False])
def test_once_a_decider_is_ready_the_standby_reads_no_question(
    monkeypatch: pytest.MonkeyPatch, ready: bool
) -> None:
    """Both come in one turn; an answer of either could be taken for one of the other's."""
    read: list[int] = []
    monkeypatch.setattr(Standby, "_questions", lambda self: read.append(self._terms.group))
    standby, decider, ends = beside_a_decider()
    standby._last = time.monotonic()
    decider.send(READY if ready else ALIVE)
    assert standby._turn()
    assert read == ([] if ready else [standby._terms.group])
    assert standby._ready is ready
    for end in ends:
        end.close()


@pytest.mark.parametrize("signs", [True, False])
def test_a_standby_that_was_busy_reads_the_signs_before_it_misses_them(
    monkeypatch: pytest.MonkeyPatch, signs: bool
) -> None:
    lost: list[str] = []
    monkeypatch.setattr(Standby, "_lost", lambda self, why: lost.append(why))
    standby, decider, ends = beside_a_decider()
    standby._ready = True
    standby._last = time.monotonic() - 10
    if signs:
        decider.send(ALIVE)
    standby._watch()
    assert bool(lost) is not signs
    for end in ends:
        end.close()


def beside_a_decider() -> tuple[Standby, socket.socket, list[socket.socket]]:
    """A standby that has marked, with a question to be read; the decider's end of its line; all
    sockets."""
    group, kernel = socket.socketpair()
    kernel.send(b"a question")
    watcher, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    hears, says = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    standby = Standby(
        Terms(group.fileno(), control.detach(), says.fileno(), b"", b"", b"", b"", False, True,
              2.0, Process.this()), [],
    )  # fmt: skip
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    standby._line, standby._marked = ours, True
    ends = [group, kernel, watcher, standby._control, hears, says, ours, theirs]
    return standby, theirs, ends
