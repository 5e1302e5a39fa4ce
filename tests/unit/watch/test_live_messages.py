"""What decider and standby say to the watcher: any bytes, and never the end of the speaker."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from ringfence.watch.live.reporter import Reporter
from ringfence.watch.live.terms import MOST_MESSAGE, Asker, Denied, Said, decoder
from ringfence.watch.live.who import Who

ODD = os.fsdecode(b"odd \xff\xfe \xe2\x82")


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("who", [
    Who(7),
    Who(7, 65534, "nobody", "/bin/sh", ("sh", "-c", "true"), "web", 6, "/bin/init", gone=True),
    Who(7, 65534, ODD, ODD, (ODD, "", ODD), ODD, 6, ODD),
])  # fmt: skip
def test_who_asked_arrives_as_it_was_in_whatever_bytes(
    line: tuple[socket.socket, socket.socket], who: Who
) -> None:
    ours, theirs = line
    Reporter(theirs.fileno()).say(Denied(b"/\xff", "why", "execute", Asker.of(who)))
    message = decoder.decode(ours.recv(MOST_MESSAGE))
    assert isinstance(message, Denied)
    assert (message.path, message.who.who()) == (b"/\xff", who)


def test_a_message_that_does_not_fit_is_counted_and_the_next_ones_arrive(
    line: tuple[socket.socket, socket.socket], capfd: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = line
    reporter = Reporter(theirs.fileno())
    reporter.say(Denied(b"/" + b"x" * (8 << 20), "why", "open", Asker.of(Who(7))))
    reporter.say(Denied(b"/short", "why", "open", Asker.of(Who(7))))
    dropped, denied = (decoder.decode(ours.recv(MOST_MESSAGE)) for _ in range(2))
    assert dropped == Said("dropped", "1 messages")
    assert isinstance(denied, Denied) and denied.path == b"/short"
    assert capfd.readouterr().err == "", "somebody is there to hear"


def test_a_question_that_could_not_be_read_is_told_and_none_at_all_is_not(
    line: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = line
    reporter = Reporter(theirs.fileno())
    reporter.unopened(BlockingIOError(11, "nothing is there"))
    reporter.unopened(OSError(24, "too many"))
    assert decoder.decode(ours.recv(MOST_MESSAGE)) == Said("unopened", "too many open files")
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(MOST_MESSAGE)
