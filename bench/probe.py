"""What probing costs: the battery's time on live processes, how long they stand still with
--inject, and a web server's throughput while it is cloned again and again, beside the same left
alone."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import threading
from pathlib import Path

from bench.services import nginx
from bench.timing import finish, verdict
from ringfence.knowledge.loader import load
from ringfence.probe.inject import Stopped, injected
from ringfence.probe.probing import INJECT, JOIN, probe_process
from ringfence.run.listening import listening

BATTERY, STILL = 2.0, 20.0
"""Limits: seconds for the battery, milliseconds for all stops of one probing."""
ROUNDS, SECONDS = 9, 3


def rate(port: int) -> float:
    """Requests a second with wrk; ends the benchmark when one fails."""
    words = ["wrk", "-t1", "-c8", f"-d{SECONDS}s", f"http://127.0.0.1:{port}/"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    if "Socket errors" in done.stdout or "Non-2xx" in done.stdout:
        sys.exit(f"requests were lost: {done.stdout}")
    match = re.search(r"Requests/sec: +([\d.]+)", done.stdout)
    return float(match[1]) if match else 0.0


def while_cloned(port: int, pid: int) -> float:
    """The same while the worker is cloned twenty times a second."""
    ended = threading.Event()

    def clone() -> None:
        while not ended.wait(0.05):
            with injected(pid) as zygote:
                zygote.call("getpid")

    other = threading.Thread(target=clone)
    other.start()
    try:
        return rate(port)
    finally:
        ended.set()
        other.join()


def _own(master: int) -> frozenset[int]:
    """Ports of this nginx alone: others of this host listen, too."""
    from ringfence.collect.process.sockets import listeners

    found, _ = listeners([master])
    return frozenset(item.port for item in found if item.port)


def main() -> None:
    """Medians of rounds on a worker of nginx."""
    knowledge = load()
    with nginx() as master:
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        worker, port = int(children[0]), min(listening(master) & _own(master))
        batteries = {stance: [probe_process(worker, knowledge, stance=stance).report
                              for _ in range(ROUNDS)] for stance in (JOIN, INJECT)}  # fmt: skip
        stops = [sum(report.stopped) * 1000 for report in batteries[INJECT]]
        quick = Stopped()
        for _ in range(200):
            with injected(worker, quick):
                pass
        alone, cloned = rate(port), while_cloned(port, worker)
    seconds = {stance: statistics.median(report.seconds for report in reports)
               for stance, reports in batteries.items()}  # fmt: skip
    one = statistics.median(quick.times) * 1000
    print(f"attempts: {len(batteries[JOIN][0].attempts)}; one stop: {one:.2f} ms (median of 400)")
    print(f"requests a second: {alone:,.0f} alone, {cloned:,.0f} cloned twenty times a second, "
          f"none lost")  # fmt: skip
    results = [
        verdict(f"battery, {stance}, under {BATTERY:g} s", f"{value:.2f} s", value < BATTERY)
        for stance, value in seconds.items()
    ]
    worst = max(stops)
    label = f"standing still with --inject, under {STILL:g} ms"
    finish([*results, verdict(label, f"{worst:.2f} ms at most", worst < STILL)])


if __name__ == "__main__":
    main()
