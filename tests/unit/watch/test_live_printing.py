"""Lines for a reader that stalls: nobody waits for it where the ledger has them all."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import TextIO

import pytest

from ringfence.errors import InputError
from ringfence.watch.live import printing
from ringfence.watch.live.printing import MOST_LINES, Printer

LINE = "x" * 100
Pipe = tuple[int, TextIO]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A reader's descriptor, and a stream that leads to it."""
    read, write = os.pipe()
    with os.fdopen(read, "rb", 0), os.fdopen(write, "w", encoding="utf-8") as stream:
        yield read, stream


def everything(read: int, end: str) -> str:
    """What comes until `end` has come."""
    text = ""
    while not text.endswith(end):
        text += os.read(read, 1 << 16).decode()
    return text


def test_lines_are_printed_at_once_and_in_order(pipe: Pipe) -> None:
    read, stream = pipe
    printer = Printer(stream, True, lambda: False)
    for number in range(100):
        printer.put([f"{number}", f"{number}b"])
    printer.close()
    expected = "".join(f"{number}\n{number}b\n" for number in range(100))
    assert everything(read, "99b\n") == expected


def test_with_a_ledger_nobody_waits_and_what_is_left_out_is_counted(pipe: Pipe) -> None:
    read, stream = pipe
    printer = Printer(stream, True, lambda: False)
    count = 3 * MOST_LINES
    began = time.monotonic()
    for number in range(count):
        printer.put([f"{number} {LINE}"])
    assert time.monotonic() - began < 5
    numbers: list[int] = []
    left_out = 0
    while len(numbers) + left_out < count:
        for line in everything(read, "\n").splitlines():
            if line.endswith("the ledger has them"):
                left_out += int(line.split()[0])
            else:
                numbers.append(int(line.split()[0]))
    assert left_out > 0
    assert len(numbers) + left_out == count
    assert numbers == sorted(set(numbers))
    printer.put(["again"])
    assert everything(read, "again\n") == "again\n"
    printer.close()


def test_without_a_ledger_every_line_is_waited_for(pipe: Pipe) -> None:
    read, stream = pipe
    printer = Printer(stream, False, lambda: False)
    count = 3 * MOST_LINES  # as many are on their way to the reader as may wait
    done = threading.Event()

    def put() -> None:
        for number in range(count):
            printer.put([f"{number} {LINE}"])
        done.set()

    threading.Thread(target=put, daemon=True).start()
    assert not done.wait(1)
    text = everything(read, f"{count - 1} {LINE}\n")
    assert [int(line.split()[0]) for line in text.splitlines()] == list(range(count))
    assert done.wait(5)
    printer.close()


def test_more_lines_at_once_than_may_wait_are_all_printed(pipe: Pipe) -> None:
    read, stream = pipe
    printer = Printer(stream, False, lambda: False)
    lines = [str(number) for number in range(3 * MOST_LINES)]
    threading.Thread(target=printer.put, args=(lines,), daemon=True).start()
    assert everything(read, f"\n{lines[-1]}\n").split() == lines
    printer.close()


def test_the_end_does_not_wait_for_a_reader_that_stalls(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printing, "PATIENCE", 0.5)
    _, stream = pipe
    printer = Printer(stream, False, lambda: True)
    printer.put([LINE] * 2 * MOST_LINES)
    began = time.monotonic()
    printer.close()
    assert 0.4 < time.monotonic() - began < 3


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """A stream whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as stream:
        yield stream


def test_with_a_ledger_a_reader_that_has_gone_is_no_failure(unread: TextIO) -> None:
    printer = Printer(unread, True, lambda: False)
    for _ in range(3 * MOST_LINES):
        printer.put([LINE])
    printer.standing()
    printer.close()


def test_without_a_ledger_output_that_fails_is_told(unread: TextIO) -> None:
    printer = Printer(unread, False, lambda: False)
    printer.standing()
    with pytest.raises(InputError, match="standard output: cannot be written: broken pipe"):
        for _ in range(3 * MOST_LINES):
            printer.put([LINE])
    with pytest.raises(InputError):
        printer.standing()


def test_without_a_ledger_the_last_line_that_fails_is_told_too() -> None:
    with open("/dev/full", "w", encoding="utf-8") as stream:
        printer = Printer(stream, False, lambda: True)
        with pytest.raises(InputError, match="no space left"):  # by `put`, or else by `close`
            printer.put([LINE])
            printer.close()


def test_text_of_any_kind_is_printed(pipe: Pipe) -> None:
    read, stream = pipe
    printer = Printer(stream, True, lambda: False)
    printer.put(["caf\u00e9 \udcff"])
    printer.close()
    assert everything(read, "\n") == "caf\u00e9 \\udcff\n"
