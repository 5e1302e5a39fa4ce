"""The ledger: appends a second one by one and with shared commits, beside bare writes and
fdatasync of the same bytes on the same disk; and how fast it is verified."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.timing import finish, verdict
from ringfence.watch.ledger.segments import segments
from ringfence.watch.ledger.verify import Source, verify
from ringfence.watch.ledger.writer import Ledger

LONE, GROUPED, THREADS = 500, 50_000, 32
DETAIL = {
    "pid": 1234,
    "uid": 33,
    "executable": "/usr/sbin/nginx",
    "before": "0755",
    "after": "4755",
}
WANTED = 10_000
"""Records a second that the watcher must be able to keep."""


def entry(number: int) -> tuple[str, str, dict[str, Any]]:
    """One record, like what the watcher writes."""
    return "event", f"/srv/www/file-{number}", {**DETAIL, "number": number}


def rate(count: int, work: Callable[[], object]) -> float:
    """Records a second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def bare(folder: Path, count: int) -> float:
    """Lines of the same length, each made durable, and nothing else."""
    handle = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def work() -> None:
        for _ in range(count):
            os.write(handle, b"x" * 800)
            os.fdatasync(handle)

    try:
        return rate(count, work)
    finally:
        os.close(handle)


def one_by_one(folder: Path, key: Ed25519PrivateKey) -> float:
    """One thread, one fdatasync a record."""
    with Ledger.open(folder / "lone", key) as ledger:
        return rate(LONE, lambda: [ledger.append(*entry(number)) for number in range(LONE)])


def by_threads(folder: Path, key: Ed25519PrivateKey) -> float:
    """Threads that wait for one another's commits."""
    each = GROUPED // 10 // THREADS
    with Ledger.open(folder / "threads", key) as ledger:

        def work() -> None:
            for number in range(each):
                ledger.append(*entry(number))

        threads = [threading.Thread(target=work) for _ in range(THREADS)]

        def together() -> None:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        return rate(each * THREADS, together)


def in_groups(folder: Path, key: Ed25519PrivateKey, size: int) -> float:
    """One thread that has `size` records at a time, as a watcher reads events."""
    with Ledger.open(folder / f"groups-{size}", key) as ledger:

        def work() -> None:
            for start in range(0, GROUPED, size):
                ledger.append_all(entry(number) for number in range(start, start + size))

        return rate(GROUPED, work)


def verified(folder: Path, key: Ed25519PrivateKey) -> float:
    """Records a second of a whole verification. Raises RuntimeError when it is not whole."""
    sources = [Source(item.number, item.lines) for item in segments(folder)]
    started = time.perf_counter()
    found = verify(sources, key.public_key())
    if found.broken:
        raise RuntimeError(found.broken)
    return found.size / (time.perf_counter() - started)


def peak(folder: Path, key: Ed25519PrivateKey) -> float:
    """Kilobytes that verifying takes at most, as Python counts them."""
    tracemalloc.start()
    verified(folder, key)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 1e3


def main() -> None:
    """Print each figure; ratios are of one run on one disk."""
    key = Ed25519PrivateKey.generate()
    results = []
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="ringfence-bench-") as place:
        folder = Path(place)
        before, lone, after = bare(folder, LONE), one_by_one(folder, key), bare(folder, LONE)
        disk = (before + after) / 2
        text = f"{lone:,.0f}/s ({lone / disk:.2f} of {disk:,.0f})"
        results.append(
            verdict("appends one by one, beside write and fdatasync", text, lone > disk / 3)
        )
        threads = by_threads(folder, key)
        text = f"{threads:,.0f}/s ({threads / lone:.1f} x)"
        results.append(verdict(f"appends by {THREADS} threads", text, threads > lone))
        groups = in_groups(folder, key, 500)
        text = f"{groups:,.0f}/s ({groups / lone:.1f} x)"
        results.append(verdict("appends 500 at a time, at least 10,000/s", text, groups > WANTED))
        speed = verified(folder / "groups-500", key)
        text = f"{speed:,.0f} records/s"
        results.append(verdict("verified, faster than written", text, speed > groups))
        sparse = verified(folder / "lone", key)
        print(f"{'verified, a head for each record':<52} {sparse:,.0f} records/s")
        memory = peak(folder / "groups-500", key)
        text = f"{memory:,.0f} kB"
        results.append(
            verdict(f"memory to verify {GROUPED:,} records under 5 MB", text, memory < 5000)
        )
    finish(results)


if __name__ == "__main__":
    main()
