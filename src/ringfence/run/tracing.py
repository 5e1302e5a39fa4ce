"""strace on a container's first process and all that it starts: its log is a file."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ringfence.errors import MissingError

WORDS = ("strace", "-f", "-ttt", "-y", "--decode-pids=pidns", "-s", "4200", "-e", "signal=none",
         "-qqq")  # fmt: skip
LOG = "trace"
"""The log's name in the folder that is given."""


@contextlib.contextmanager
def strace(pid: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Trace a process that has not begun, with all that it will start. Raises MissingError."""
    if shutil.which("strace") is None:
        raise MissingError("strace is needed to observe", remedy="apt-get install strace")
    complaints = folder / "strace.err"
    with complaints.open("wb") as errors:
        tracer = subprocess.Popen(
            [*WORDS, "-o", str(folder / LOG), "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the service, whose end is still to be seen
        )
    try:
        limit = time.monotonic() + 10
        while not _all_traced(pid):
            if tracer.poll() is not None or time.monotonic() > limit:
                said = complaints.read_text(errors="replace").strip()
                raise MissingError(f"strace cannot trace: {said}", remedy="run as root")
            time.sleep(0.005)
        yield tracer
    finally:
        if tracer.poll() is None:
            tracer.terminate()
        tracer.wait()


def _all_traced(pid: int) -> bool:
    return all(
        b"TracerPid:\t0\n" not in (task / "status").read_bytes()
        for task in Path(f"/proc/{pid}/task").iterdir()
    )
