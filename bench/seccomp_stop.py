"""How long a process stands still while its seccomp filters are read: well under a millisecond."""

from __future__ import annotations

import statistics

from bench.timing import finish, verdict
from ringfence.collect.seccomp.live import read_programs
from tests.seccomp import filtered_child

LIMIT = 500.0
ROUNDS = 200


def main() -> None:
    """Median and worst of many readings of a process with two stacked filters."""
    with filtered_child(stack=2) as pid:
        stops = [read_programs(pid).stopped for _ in range(ROUNDS)]
    middle, worst = statistics.median(stops), max(stops)
    text = f"median {middle:.0f} us, worst {worst:.0f} us"
    finish([verdict(f"stopped under {LIMIT:.0f} us (median of {ROUNDS})", text,
                    middle < LIMIT)])  # fmt: skip


if __name__ == "__main__":
    main()
