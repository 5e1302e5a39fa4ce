"""`ringfence watch run` as tests start it: in a process group of its own, that a timer kills."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ringfence.watch.ledger.listing import Wanted, records
from ringfence.watch.ledger.record import Record
from ringfence.watch.ledger.segments import segments
from tests.watching import Watched

HARD = 90.0
"""Seconds after which a run and all that it started are killed, whatever a test does."""
PATIENCE = 20.0


class Run:
    """A watch of a target below `place`, with its baseline and ledger."""

    def __init__(self, place: Path, target: Path) -> None:
        self.target = target
        self.watched = Watched(place, target)
        self.ledger = place / "ledger"
        self.key = place / "ledger.key"
        self.output = place / "output"
        self.process: subprocess.Popen[bytes] | None = None
        if not self.key.exists():
            subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(self.key)],
                           check=True, stderr=subprocess.DEVNULL)  # fmt: skip

    @contextlib.contextmanager
    def running(
        self, *words: object, first: bool = False, sign: str = "start",
        before: Sequence[str] = (), output: int | None = None, errors: int | None = None,
    ) -> Iterator[None]:  # fmt: skip
        """Watch, from the record of the event `sign` on; killed afterwards if not stopped.

        `before` are the words of a command that starts it; `output` and `errors` are its standard
        output and error, where they are not to be kept."""
        former = sum(item.detail.get("event") == sign for item in self.told())
        command = [
            *before, sys.executable, "-m", "ringfence", "watch", "run", self.target,
            "--baseline", self.watched.baseline, "--public-key", self.watched.public,
            "--ledger", self.ledger, "--key", self.key,
            *([] if first else ["--no-first-check"]), *words,
        ]  # fmt: skip
        with self.output.open("ab") as kept:
            process = subprocess.Popen(list(map(str, command)), stdout=output or kept,
                                       stderr=errors or kept, start_new_session=True)  # fmt: skip
        self.process = process
        timer = threading.Timer(HARD, self.kill_all)
        timer.start()
        try:
            self.until(lambda told: sum(i.detail.get("event") == sign for i in told) > former)
            yield
        finally:
            self.kill_all()
            process.wait()
            timer.cancel()

    def kill_all(self) -> None:
        """SIGKILL to the watcher and all that it started."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def told(self) -> list[Record]:
        """The ledger's records so far."""
        if not self.ledger.is_dir() or not any(self.ledger.glob("segment-*")):
            return []
        lines = (line for segment in segments(self.ledger) for line in segment.lines())
        return list(records(lines, Wanted("", frozenset())))

    def events(self, event: str, path: str = "") -> list[Record]:
        """Records of one event, and of one path if that is given."""
        return [item for item in self.told()
                if item.detail.get("event") == event and path in ("", item.subject)]  # fmt: skip

    def until(self, holds: Callable[[list[Record]], object]) -> None:
        """Wait until what was told so far is as it should be."""
        deadline = time.monotonic() + PATIENCE
        while not holds(self.told()):
            assert self.process is not None
            ended = self.process.poll()
            assert ended is None, f"it ended with {ended}: {self.output.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"not told: {self.output.read_text()[-3000:]}"
            time.sleep(0.05)

    def until_event(self, event: str, path: str, **wanted: Any) -> Record:
        """Wait for a record of an event; `wanted` are values of its detail."""

        def fits(item: Record) -> bool:
            detail = item.detail
            return (detail.get("event"), item.subject) == (event, path) and all(
                detail.get(name) == value for name, value in wanted.items()
            )

        self.until(lambda told: any(map(fits, told)))
        return next(item for item in self.told() if fits(item))

    def children(self, module: str) -> list[int]:
        """Processes of this run's group that run a module."""
        assert self.process is not None
        found = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError, ValueError):
                if os.getpgid(int(name)) == self.process.pid and (
                    module.encode() in Path(f"/proc/{name}/cmdline").read_bytes()
                ):
                    found.append(int(name))
        return found


@contextlib.contextmanager
def tmpfs(place: Path) -> Iterator[Path]:
    """A private tmpfs at `place`."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "ringfence-test", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
