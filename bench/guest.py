"""A complete examination of a small guest with five boots: under 20 seconds, load included."""

from __future__ import annotations

import sys

from bench.timing import finish, run, verdict
from tests.guests.build import kernel
from tests.system.guests import ask_on_serial

LIMIT = 20.0
BOOTS = "5"


def main() -> None:
    """A unikernel that never halts, and one whose application sleeps in ring 3, each whole."""
    exercise = ask_on_serial("GET /", "200 hello")
    results = []
    for variant in ("random", "sleep"):
        done = run(
            sys.executable, "-m", "ringfence", "guest", str(kernel(variant)), "--boots", BOOTS,
            "--exercise", exercise,
        )  # fmt: skip
        label = f"examination of {variant}, five boots, under {LIMIT:.0f} s"
        results.append(verdict(label, f"{done.seconds:.1f} s", done.seconds < LIMIT))
    finish(results)


if __name__ == "__main__":
    main()
