"""What the fence costs: requests a second with wrk, and milliseconds at the start.

Both beside the same engine, image and namespaces without policies (no filters, no firewall, no
reporting), in one run. Limits: 97% of the throughput, 15 ms at the start. What the kernel takes
for having a filter and a firewall at all is told apart: a third container has a filter that allows
every call of this service, and a chain in each direction that accepts everything. No policy can
cost less than that.

One second of requests differs from the next by a tenth here, and one container from the next of
its kind: so the containers of a round are started anew, asked by turns, and the medians of all
seconds compared. What a request costs beside the fence decides as much as the fence does: so
nginx's own page of some 600 bytes is asked for, which it hardly has work with, and one of 32 KiB,
about the median document of the web (HTTP Archive). wrk runs in the container's network namespace;
what a port that `ringfence run` publishes passes on of that is measured beside it. The error is
that of the ratio when the rounds are drawn again (bootstrap, 1,000 times). 128 connections, because
few of them fall to nginx's workers unevenly, which makes seconds differ.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
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

ROUNDS, EACH, STARTS = 14, 6, 60
PAGES = {"nginx's own page": "/", "a page of 32 KiB": "/page.html"}
LEAST, MOST = 0.97, 15.0
PLAIN, BARE, FENCED = KINDS = "plain", "bare mechanisms", "fenced"
Round = dict[str, list[float]]

ANYTHING = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
    "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}],
}
"""For any service: runc installs no filter at all where none of its rules forbids something."""
OPEN = """table inet ringfence {
  chain input {
    type filter hook input priority filter; policy accept;
  }
  chain output {
    type filter hook output priority filter; policy accept;
  }
}
"""


@contextlib.contextmanager
def started(workload: Ready, kind: str, port: int = 0) -> Iterator[tuple[Container, float]]:
    """A container that runs, and the milliseconds until the engine had started it; when it is
    fenced, with a port published."""
    folder = reachable_folder()
    with contextlib.ExitStack() as stack:
        stack.callback(subprocess.run, ["rm", "-rf", str(folder)], check=True)
        began = time.perf_counter()
        filters, firewall = (ANYTHING, OPEN) if kind == BARE else (None, "")
        if kind == FENCED:
            listener = Listener(folder / "refused.sock")
            stack.callback(listener.close)
            publisher = Publisher((Published("127.0.0.1", port, 80),))
            stack.callback(publisher.close)
            filters = notifying(workload.fence.seccomp or {}, listener.path)
            firewall = workload.fence.firewall
        fence = msgspec.structs.replace(workload.fence, seccomp=filters, firewall=firewall)
        container = Container(fence, folder)
        stack.callback(container.remove)
        container.launch()
        taken = (time.perf_counter() - began) * 1000
        while 80 not in listening(container.pid):
            time.sleep(0.005)
        if kind == FENCED and workload.serving is not None:
            tighten(container.pid, workload.serving, listener)
        if kind == FENCED and port:
            publisher.serve(container.pid)
        yield container, taken


def requests(url: str, container: Container | None = None) -> float:
    """Requests a second, asked from inside a container's network namespace or from outside."""
    inside = ["nsenter", "-t", str(container.pid), "-n"] if container else []
    done = subprocess.run(
        [*inside, "wrk", "-t1", "-c128", "-d1s", url], capture_output=True, text=True, check=True
    )
    match = re.search(r"Requests/sec: +([\d.]+)", done.stdout)
    if match is None or "Non-2xx" in done.stdout:
        sys.exit(f"wrk said: {done.stdout}")
    return float(match[1])


def rounds(workload: Ready, path: str) -> list[Round]:
    """Requests a second of containers started together, `EACH` seconds of every kind, by turns."""
    found = []
    for number in range(ROUNDS):
        turn = KINDS if number % 2 else KINDS[::-1]
        rates: Round = {kind: [] for kind in KINDS}
        with contextlib.ExitStack() as stack:
            containers = {kind: stack.enter_context(started(workload, kind))[0] for kind in turn}
            for second in range(EACH):
                for kind in turn if second % 2 else turn[::-1]:
                    rates[kind].append(requests(f"http://127.0.0.1{path}", containers[kind]))
        found.append(rates)
    return found


def ratio(asked: list[Round], kind: str) -> float:
    """The median second of a kind, as a share of the plain one."""
    plain, other = (
        statistics.median(rate for one in asked for rate in one[name]) for name in (PLAIN, kind)
    )
    return other / plain


def error(asked: list[Round], kind: str) -> float:
    """The standard deviation of the ratio over pairs drawn again with replacement."""
    draw = random.Random(1)
    return statistics.stdev(ratio(draw.choices(asked, k=len(asked)), kind) for _ in range(1000))


def through_port(workload: Ready) -> float:
    """What a published port passes on, as a share of what is served inside."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inside, outside = [], []
    with started(workload, FENCED, port) as (container, _):
        for _ in range(EACH):
            inside.append(requests("http://127.0.0.1/", container))
            outside.append(requests(f"http://127.0.0.1:{port}/"))
    return statistics.median(outside) / statistics.median(inside)


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
        asked = {page: rounds(workload, path) for page, path in PAGES.items()}
        passed_on = through_port(workload)
        starts: dict[str, list[float]] = {PLAIN: [], FENCED: []}
        for _ in range(STARTS):
            for kind, times in starts.items():
                with started(workload, kind) as (_, taken):
                    times.append(taken)
    early, late = (statistics.median(times) for times in starts.values())
    print(f"start: {early:.1f} ms plain, {late:.1f} ms fenced")
    print(f"through a published port: {passed_on:.2f} of what is served inside")
    held = {}
    for page, seconds in asked.items():
        bare, held[page] = (f"{ratio(seconds, kind):.3f} +- {error(seconds, kind):.3f}"
                            for kind in (BARE, FENCED))  # fmt: skip
        print(f"{page}, the bare mechanisms: {bare} of plain")
    finish([
        *(verdict(f"{page}, at least {LEAST} of plain", held[page],
                  ratio(seconds, FENCED) >= LEAST) for page, seconds in asked.items()),
        verdict(f"start, at most {MOST:g} ms more", f"{late - early:.1f} ms", late - early <= MOST),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
