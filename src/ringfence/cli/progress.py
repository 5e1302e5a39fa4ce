"""A sign of life on work that takes longer than a second: on a terminal's standard error alone."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

PATIENCE = 1.0
"""Seconds before anything is shown."""
_STEP = 0.25
_BAR = 20


@contextlib.contextmanager
def progress(label: str) -> Iterator[None]:
    """Show `label` with a moving bar and the seconds so far, until the work inside is done."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_show, args=(label, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(label: str, done: threading.Event) -> None:
    began = time.monotonic()
    if done.wait(PATIENCE):
        return
    step = 0
    while True:
        seconds = time.monotonic() - began
        sys.stderr.write(f"\r{bar(step)} {label} {seconds:.0f} s ")
        sys.stderr.flush()
        if done.wait(_STEP):
            break
        step += 1
    sys.stderr.write("\r\x1b[K")
    sys.stderr.flush()


def bar(step: int) -> str:
    """A block that moves along: the length of hostile input is not known before it is read."""
    place = step % _BAR
    return "[" + " " * place + "=" + " " * (_BAR - 1 - place) + "]"
