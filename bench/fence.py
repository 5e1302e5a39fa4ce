"""What the fence costs: requests a second with wrk, and milliseconds at the start.

Both beside the same engine, image and namespaces without policies (no filters, no firewall, no
reporting), in one run. Limits: 97% of the throughput, 15 ms at the start.

One second of requests differs from the next by a tenth here, and one container from the next of
its kind: so pairs of containers are started anew, asked by turns, and the medians of all seconds
compared. What a request costs beside the fence decides as much as the fence does: so nginx's own
page of some 600 bytes is asked for, which it hardly has work with, and one of 32 KiB, about the
median document of the web (HTTP Archive). The error is that of the ratio when the pairs are drawn
again (bootstrap, 1,000 times). 128 connections, because few of them fall to nginx's workers
unevenly, which makes seconds differ.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.harden import hardened
from bench.timing import finish, verdict
from ringfence.run.engine import Container
from ringfence.run.listening import listening
from ringfence.run.notify import Listener, notifying
from ringfence.run.phases import tighten
from ringfence.run.places import reachable_folder
from ringfence.run.publish import Published, Publisher
from ringfence.run.result import Options, Ready, ready

PAIRS, EACH, STARTS = 14, 6, 60
PAGES = {"nginx's own page": "/", "a page of 32 KiB": "/page.html"}
LEAST, MOST = 0.97, 15.0


@contextlib.contextmanager
def started(workload: Ready, fenced: bool) -> Iterator[tuple[Container, float]]:
    """A container that runs, and the milliseconds until the engine had started it."""
    folder = reachable_folder()
    plain = msgspec.structs.replace(workload.fence, seccomp=None, firewall="")
    with contextlib.ExitStack() as stack:
        stack.callback(subprocess.run, ["rm", "-rf", str(folder)], check=True)
        began = time.perf_counter()
        fence = plain
        if fenced:
            listener = Listener(folder / "refused.sock")
            stack.callback(listener.close)
            publisher = Publisher((Published("127.0.0.1", 0, 80),))
            stack.callback(publisher.close)
            filters = notifying(workload.fence.seccomp or {}, listener.path)
            fence = msgspec.structs.replace(workload.fence, seccomp=filters)
        container = Container(fence, folder)
        stack.callback(container.remove)
        container.launch()
        taken = (time.perf_counter() - began) * 1000
        while 80 not in listening(container.pid):
            time.sleep(0.005)
        if fenced and workload.serving is not None:
            tighten(container.pid, workload.serving)
        yield container, taken


def requests(container: Container, path: str) -> float:
    """Requests a second, asked from inside the container's network namespace."""
    wrk = ["wrk", "-t1", "-c128", "-d1s", f"http://127.0.0.1{path}"]
    done = subprocess.run(
        ["nsenter", "-t", str(container.pid), "-n", *wrk],
        capture_output=True,
        text=True,
        check=True,
    )
    match = re.search(r"Requests/sec: +([\d.]+)", done.stdout)
    if match is None or "Non-2xx" in done.stdout:
        sys.exit(f"wrk said: {done.stdout}")
    return float(match[1])


def paired(workload: Ready, path: str) -> list[dict[bool, list[float]]]:
    """Requests a second of each pair: plain and fenced, `EACH` seconds of both, by turns."""
    found = []
    for number in range(PAIRS):
        turn = (False, True) if number % 2 else (True, False)
        rates: dict[bool, list[float]] = {False: [], True: []}
        with contextlib.ExitStack() as stack:
            both = {fenced: stack.enter_context(started(workload, fenced))[0] for fenced in turn}
            for second in range(EACH):
                for fenced in turn if second % 2 else turn[::-1]:
                    rates[fenced].append(requests(both[fenced], path))
        found.append(rates)
    return found


def ratio(pairs: list[dict[bool, list[float]]]) -> float:
    """The median second inside the fence, as a share of the plain one."""
    plain, inside = (
        statistics.median(rate for pair in pairs for rate in pair[fenced])
        for fenced in (False, True)
    )
    return inside / plain


def error(pairs: list[dict[bool, list[float]]]) -> float:
    """The standard deviation of the ratio over pairs drawn again with replacement."""
    draw = random.Random(1)
    return statistics.stdev(ratio(draw.choices(pairs, k=len(pairs))) for _ in range(1000))


def main() -> None:
    """Containers with and without take turns, so that both meet the same machine."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o711)  # noqa: S103 - the root of the container's user namespace goes through
        folder = Path(name) / "result"
        hardened("nginx-light", folder)
        workload = ready(folder, Options(), Path(name) / "store")
        (workload.fence.root / "var/www/html/page.html").write_bytes(
            os.urandom(16 << 10).hex().encode()
        )
        asked = {page: paired(workload, path) for page, path in PAGES.items()}
        starts: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(STARTS):
            for fenced in (False, True):
                with started(workload, fenced) as (_, taken):
                    starts[fenced].append(taken)
    early, late = (statistics.median(starts[fenced]) for fenced in (False, True))
    print(f"start: {early:.1f} ms plain, {late:.1f} ms fenced")
    held = {page: (ratio(pairs), error(pairs)) for page, pairs in asked.items()}
    finish([
        *(verdict(f"{page}, at least {LEAST} of plain", f"{share:.3f} +- {margin:.3f}",
                  share >= LEAST) for page, (share, margin) in held.items()),
        verdict(f"start, at most {MOST:g} ms more", f"{late - early:.1f} ms", late - early <= MOST),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
