"""strace on a container's first process and all that it starts: its log is a file."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ringfence.collect.process.tree import descendants
from ringfence.errors import MissingError

WORDS = ("strace", "-f", "-ttt", "-y", "--decode-pids=pidns", "-s", "4200", "-e", "signal=none",
         "-qqq")  # fmt: skip
LOG = "trace"
"""The log's name in the folder that is given."""
PATIENCE = 2.0
"""Seconds for strace to let go of what it traces, which takes it milliseconds."""


class Tracer:
    """strace on a process and all that it starts, from `start` on."""

    def __init__(self, pid: int, folder: Path) -> None:
        """`folder` gets the log, to which a later start adds. Raises MissingError."""
        if shutil.which("strace") is None:
            raise MissingError("strace is needed to observe", remedy="apt-get install strace")
        self._pid = pid
        self._log = folder / LOG
        self._complaints = folder / "strace.err"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when all of it is traced. Raises MissingError."""
        members = descendants(self._pid)
        with self._complaints.open("wb") as errors:
            self._process = subprocess.Popen(
                [*WORDS, "-A", "-o", str(self._log), *(f"--attach={one}" for one in members)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the service, whose end is still to be seen
            )
        limit = time.monotonic() + 10
        while not all(_traced(one) for one in members):
            if self._process.poll() is not None or time.monotonic() > limit:
                said = self._complaints.read_text(errors="replace").strip()
                raise MissingError(f"strace cannot trace: {said}", remedy="run as root")
            time.sleep(0.005)

    def stop(self) -> None:
        """Let go of all of it. Where a signal came between strace's start and our hearing of it,
        it ends with the container.

        Of a process with several threads that is in execve(2), strace waits for the one that waits
        for the others, which stand still for strace: for ever. Its sudden end sets all of them
        free, and its log has every call that was over.
        """
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def finish(self, patience: float) -> None:
        """Wait until the log is whole: strace ends with the last process that it traces. Raises
        subprocess.TimeoutExpired after `patience` seconds."""
        if self._process is not None:
            self._process.wait(timeout=patience)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nobody is traced meanwhile: a process has one tracer at most. Raises MissingError."""
        self.stop()
        try:
            yield
        finally:
            self.start()


@contextlib.contextmanager
def strace(pid: int, folder: Path) -> Iterator[Tracer]:
    """Trace a process that has not begun, with all that it will start. Raises MissingError."""
    tracer = Tracer(pid, folder)
    try:
        tracer.start()
        yield tracer
    finally:
        tracer.stop()


def _traced(pid: int) -> bool:
    """Whether each of its threads is; a process that has ended counts."""
    try:
        return all(
            b"TracerPid:\t0\n" not in (task / "status").read_bytes()
            for task in Path(f"/proc/{pid}/task").iterdir()
        )
    except (FileNotFoundError, ProcessLookupError):
        return True
