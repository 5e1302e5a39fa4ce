"""Whole processes timed from outside: wall seconds and peak resident memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec

BIN = Path(sys.executable).parent
INSTALLED = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment of what is timed: an installed program has the bytecode of its modules, and to
compile them anew at every start is no part of what it costs."""


class Run(msgspec.Struct, frozen=True):
    """One process: `seconds` of wall time, `peak` resident memory in bytes."""

    seconds: float
    peak: int


def run(*command: str) -> Run:
    """Run `command` to its end, its output thrown away. Raises RuntimeError when it fails."""
    with open(os.devnull, "wb") as nowhere:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=INSTALLED)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Run(seconds, usage.ru_maxrss * 1024)


def best(count: int, *command: str) -> Run:
    """The quickest of `count` runs, and the largest memory of all of them."""
    runs = [run(*command) for _ in range(count)]
    return Run(min(item.seconds for item in runs), max(item.peak for item in runs))


def verdict(label: str, value: str, holds: bool) -> bool:
    """Print one line of a benchmark; gives back `holds`."""
    print(f"{label:<52} {value:<28} {'holds' if holds else 'DOES NOT HOLD'}", flush=True)
    return holds


def finish(results: list[bool]) -> None:
    """End the benchmark: exit code 1 when a limit did not hold."""
    sys.exit(0 if all(results) else 1)
