"""A service's output on its way: nothing is lost of it, little is kept, and none of it is late."""

from __future__ import annotations

import os
import threading
import time

import pytest

from ringfence.run.engine import MOST_LOG, PAUSE, Output


def _written(output: Output, parts: list[bytes]) -> None:
    """All of it, whatever the pipe holds at a time."""
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(output.write_end, view) :]
    output.close()


@pytest.mark.parametrize("size", [1, 100, 1 << 15, 1 << 18])
def test_everything_is_handed_on_and_the_last_megabyte_kept(size: int) -> None:
    count = (1 << 22) // size if size > 100 else 3000
    parts = [bytes([number % 251]) * size for number in range(count)]
    passed = bytearray()
    output = Output(passed.extend)
    _written(output, parts)
    kept = output.finish()
    whole = b"".join(parts)
    assert passed == whole
    assert kept == whole[-MOST_LOG:]


def test_a_line_is_handed_on_at_once() -> None:
    came = threading.Event()
    output = Output(lambda part: came.set())
    os.write(output.write_end, b"ready\n")
    assert came.wait(1)
    assert output.kept() == b"ready\n"
    output.close()


def test_many_lines_are_read_at_once() -> None:
    """A server that writes a line for each request is not held up by a reader for each."""
    parts: list[bytes] = []
    output = Output(parts.append)
    for _ in range(200):
        os.write(output.write_end, b"GET / 200\n")
        time.sleep(PAUSE / 20)
    output.close()
    assert output.finish() == b"GET / 200\n" * 200
    assert len(parts) < 150
