"""The watch in real time: from a change to its record, 10,000 changes a second, and what a decision
adds to an execution. Everything happens below folders and on a tmpfs of its own. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.timing import BIN, finish, run, verdict
from ringfence.watch.baseline.seal import generate
from ringfence.watch.ledger.listing import Wanted, records
from ringfence.watch.ledger.segments import segments

LATENCY, ADDED = 0.050, 0.001
RATE, SECONDS = 10_000, 3
MAKERS = 2
SPACED, EXECUTIONS = 300, 400


class Bench:
    """A folder with keys; targets are made in it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        generate(place / "key")
        key = Ed25519PrivateKey.generate()
        (place / "ledger.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )

    def seal(self, target: Path) -> None:
        """Take its baseline."""
        run(str(BIN / "ringfence"), "watch", "init", str(target), "-o", f"{target}.baseline",
            "--key", str(self.place / "key"))  # fmt: skip

    @contextlib.contextmanager
    def watching(self, target: Path, *words: str, sign: str = "start") -> Iterator[None]:
        """`watch run` on it, from the time at which the ledger has the event `sign`."""
        process = subprocess.Popen(
            [str(BIN / "ringfence"), "watch", "run", str(target), "--no-first-check",
             "--baseline", f"{target}.baseline", "--public-key", str(self.place / "key.pub"),
             "--ledger", f"{target}.ledger", "--key", str(self.place / "ledger.key"), *words],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            until = time.monotonic() + 30
            while not any(item.detail.get("event") == sign for item in self.told(target)):
                assert process.poll() is None and time.monotonic() < until, "it did not start"
                time.sleep(0.05)
            time.sleep(0.5)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def told(self, target: Path) -> list[Any]:
        """The ledger's records so far."""
        place = Path(f"{target}.ledger")
        if not place.is_dir() or not any(place.glob("segment-*")):
            return []
        lines = (line for segment in segments(place) for line in segment.lines())
        return list(records(lines, Wanted("", frozenset())))


def latency(bench: Bench) -> list[bool]:
    """Single changes, 10 ms apart."""
    target = bench.place / "single"
    target.mkdir()
    (target / "file").write_text("x")
    bench.seal(target)
    made: dict[str, float] = {}
    with bench.watching(target):
        for number in range(SPACED):
            made[f"/new-{number}"] = time.time()
            (target / f"new-{number}").write_text("y")
            time.sleep(0.01)
    kept: dict[str, float] = {}
    for item in bench.told(target):
        moment = datetime.fromisoformat(item.time.replace("Z", "+00:00")).astimezone(UTC)
        kept.setdefault(item.subject, moment.timestamp())
    waits = sorted(kept[path] - at for path, at in made.items() if path in kept)
    middle = statistics.median(waits)
    text = f"{middle * 1000:.1f} ms, 95 % {waits[int(len(waits) * 0.95)] * 1000:.1f} ms"
    return [
        verdict("single changes that are in the ledger", f"{len(waits)} of {SPACED}",
                len(waits) == SPACED),
        verdict("median from change to record, at most 50 ms", text, middle < LATENCY),
    ]  # fmt: skip


def many(bench: Bench) -> list[bool]:
    """10,000 changes a second, for some seconds."""
    target = bench.place / "many"
    for number in range(100):
        (target / f"{number}").mkdir(parents=True)
    (target / "0" / "file").write_text("x")
    bench.seal(target)
    with bench.watching(target):
        rate = _changing(target)
        _settled(bench, target)
    told = bench.told(target)
    paths = {item.subject for item in told if item.detail.get("event") in ("change", "found")}
    made = {f"/{number % 100}/f{number}" for number in range(RATE * SECONDS)}
    by_events = {item.subject for item in told if item.detail.get("event") == "change"} & made
    overflows = sum(item.detail.get("event") == "overflow" for item in told)
    text = f"{len(made & paths)} of {len(made)}, {overflows} overflows"
    return [
        verdict("changes a second that were made", f"{rate:.0f}", rate > RATE * 0.95),
        verdict("of them in the ledger", text, made <= paths),
        verdict("by events alone, or the overflow is told", f"{len(by_events)}",
                by_events == made or overflows > 0),
    ]  # fmt: skip


def _changing(target: Path) -> float:
    """Make the changes, ahead of everything else that wants the processors; how many a second."""
    began = time.perf_counter()
    makers = []
    for part in range(MAKERS):
        pid = os.fork()
        if pid == 0:
            os.setpriority(os.PRIO_PROCESS, 0, -20)
            _make(target, part, began)
            os._exit(0)
        makers.append(pid)
    for pid in makers:
        assert os.waitpid(pid, 0)[1] == 0
    return RATE * SECONDS / (time.perf_counter() - began)


def _make(target: Path, part: int, began: float) -> None:
    """One maker's part of the files, no faster than `RATE`."""
    folder = os.open(target, os.O_RDONLY)
    for number in range(part, RATE * SECONDS, MAKERS):
        name = f"{number % 100}/f{number}"
        handle = os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=folder)
        os.write(handle, b"z")
        os.close(handle)
        ahead = began + number / RATE - time.perf_counter()
        if ahead > 0.005:
            time.sleep(ahead)


def _settled(bench: Bench, target: Path) -> None:
    """Wait until nothing is added to the ledger for some seconds."""
    size, since = -1, time.monotonic()
    while time.monotonic() - since < 4:
        now = sum(path.stat().st_size for path in Path(f"{target}.ledger").iterdir())
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(0.2)


def executing(program: Path) -> float:
    """The median of starting a program and seeing it end, in seconds."""
    found = []
    for _ in range(EXECUTIONS):
        began = time.perf_counter()
        os.waitpid(os.posix_spawn(program, [str(program)], {}), 0)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def enforcement(bench: Bench) -> list[bool]:
    """The same program on the same tmpfs, before and while a decision is asked for each time."""
    target = bench.place / "fenced"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(target)], check=True)
    try:
        program = target / "program"
        shutil.copy("/bin/true", program)
        bench.seal(target)
        executing(program)
        free = executing(program)
        with bench.watching(target, "--enforce", "exec", "--when-gone", "allow", sign="enforce"):
            executing(program)
            asked = executing(program)
            (target / "foreign").write_bytes(Path("/bin/true").read_bytes())
            (target / "foreign").chmod(0o755)
            with contextlib.suppress(PermissionError):
                os.posix_spawn(target / "foreign", ["foreign"], {})
                return [verdict("a foreign program is denied meanwhile", "it ran", False)]
    finally:
        subprocess.run(["umount", "-l", str(target)], check=True)
    text = f"{(asked - free) * 1e6:.0f} µs ({asked / free:.2f} times {free * 1e6:.0f} µs)"
    return [verdict("a decision adds to an execution, under 1 ms", text, asked - free < ADDED)]


def main() -> None:
    """All of it."""
    assert os.getuid() == 0, "needs root"
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as name:
        bench = Bench(Path(name))
        finish([*latency(bench), *many(bench), *enforcement(bench)])


if __name__ == "__main__":
    main()
