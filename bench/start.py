"""`ringfence --help` and `ringfence measure --help` start in under 150 ms."""

from __future__ import annotations

from bench.timing import BIN, best, finish, verdict

LIMIT = 0.150


def main() -> None:
    """Best of ten whole processes, beside the bare interpreter of the same environment."""
    bare = best(10, str(BIN / "python"), "-c", "pass")
    results = []
    for words in (["--help"], ["measure", "--help"]):
        took = best(10, str(BIN / "ringfence"), *words)
        text = f"{took.seconds * 1000:.0f} ms ({took.seconds / bare.seconds:.1f} x bare python)"
        label = f"ringfence {' '.join(words)} under {LIMIT * 1000:.0f} ms"
        results.append(verdict(label, text, took.seconds < LIMIT))
    finish(results)


if __name__ == "__main__":
    main()
