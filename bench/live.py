"""A live process tree is measured in under a second: nginx, its master and two workers."""

from __future__ import annotations

from bench.services import nginx
from bench.timing import BIN, best, finish, verdict

LIMIT = 1.0


def main() -> None:
    """Best of five whole processes, the plan included."""
    with nginx() as pid:
        took = best(5, str(BIN / "ringfence"), "measure", str(pid))
    text = f"{took.seconds:.2f} s, {took.peak / 1e6:.0f} MB"
    finish([verdict("measure PID (nginx) under 1 s", text, took.seconds < LIMIT)])


if __name__ == "__main__":
    main()
