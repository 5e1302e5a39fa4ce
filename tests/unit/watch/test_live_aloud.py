"""A line on standard error never holds its writer up."""

from __future__ import annotations

import os
import pty
import select
import termios
from collections.abc import Iterator

import pytest

from ringfence.watch.live import aloud
from ringfence.watch.live.reporter import Reporter
from ringfence.watch.live.terms import Asker, Denied
from ringfence.watch.live.who import Who
from tests.full_pipe import filled


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The other end of what is standard error meanwhile: a pipe."""
    ours, theirs = os.pipe()
    monkeypatch.setattr(aloud, "STDERR", theirs)
    yield ours
    os.close(theirs)
    os.close(ours)


def test_a_line_is_written(reader: int) -> None:
    assert aloud.aloud("one \udcff")
    assert aloud.aloud("two")
    assert os.read(reader, 100) == b"ringfence: one \\udcff\nringfence: two\n"


def test_a_full_pipe_loses_the_line_and_nobody_waits(reader: int) -> None:
    count = filled(aloud.STDERR)
    assert not aloud.aloud("lost")
    while count:
        count -= len(os.read(reader, count))
    assert aloud.aloud("told")
    assert os.read(reader, 100) == b"ringfence: told\n"


def test_a_long_line_loses_its_end(reader: int) -> None:
    assert aloud.aloud("x" * 10_000)
    told = os.read(reader, 10_000)
    assert len(told) == select.PIPE_BUF
    assert told.endswith(b"x\n")


def test_a_reader_that_has_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    monkeypatch.setattr(aloud, "STDERR", theirs)
    os.close(ours)
    assert not aloud.aloud("to nobody")
    os.close(theirs)
    assert not aloud.aloud("to nothing")


def test_a_stopped_terminal_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, terminal = pty.openpty()
    monkeypatch.setattr(aloud, "STDERR", terminal)
    termios.tcflow(terminal, termios.TCOOFF)
    assert not aloud.aloud("lost")
    termios.tcflow(terminal, termios.TCOON)
    assert aloud.aloud("told")
    assert os.read(screen, 100) == b"ringfence: told\r\n"
    os.close(terminal)
    os.close(screen)


def test_denials_are_told_aloud_once_nobody_hears_and_hold_nobody_up(reader: int) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    reporter = Reporter(theirs)
    message = Denied(b"/tmp/\xff", "it is in no baseline", "execute", Asker.of(Who(7)))
    reporter.say(message)
    assert os.read(reader, 1000) == b"ringfence: denied '/tmp/\\\\xff': it is in no baseline\n"
    filled(aloud.STDERR)
    reporter.say(message)
    os.close(theirs)
