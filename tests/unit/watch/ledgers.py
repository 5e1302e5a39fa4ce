"""What ledger tests share: a key, a clock to set, small ledgers, and their lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ringfence.watch.ledger.checkpoint import Checkpoint
from ringfence.watch.ledger.clock import Reading
from ringfence.watch.ledger.segments import segments
from ringfence.watch.ledger.verify import Source, Verdict, verify
from ringfence.watch.ledger.writer import Ledger

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
SECOND = 1_000_000
Lines = list[list[bytes]]
"""The lines of each segment."""


class Clock:
    """Both clocks, moved by hand: `wall` may be set, `pass_` moves both on."""

    def __init__(self) -> None:
        self.wall, self.up, self.boot = 1_800_000_000 * SECOND, 100 * SECOND, "boot-1"

    def pass_(self, seconds: float) -> None:
        self.wall += int(seconds * SECOND)
        self.up += int(seconds * SECOND)

    def __call__(self) -> Reading:
        self.pass_(0.001)
        return Reading(self.wall, self.up, self.boot)


def small(
    path: Path, count: int, segment_bytes: int = 3000, clock: Callable[[], Reading] | None = None
) -> Checkpoint:
    """A ledger of `count` records beside the one that says it was opened; its last head."""
    ledger = Ledger.open(path, KEY, segment_bytes=segment_bytes, clock=clock or Clock())
    for number in range(count):
        ledger.append("event", f"/etc/file-{number}", {"number": number})
    return ledger.head()


def lines_of(path: Path) -> Lines:
    return [list(segment.lines()) for segment in segments(path)]


def judged(
    lines: Lines, kept: Sequence[Checkpoint] = (), *, archived: bool = False, first: int = 0
) -> Verdict:
    """The verdict over these segments, numbered from `first` on."""
    sources = [Source(number, lambda segment=segment: segment)  # type: ignore[misc]
               for number, segment in enumerate(lines, first)]  # fmt: skip
    return verify(sources, KEY.public_key(), kept, archived=archived)


def checked(path: Path, kept: Sequence[Checkpoint] = (), *, archived: bool = False) -> Verdict:
    """The verdict over a directory."""
    sources = [Source(item.number, item.lines) for item in segments(path)]
    return verify(sources, KEY.public_key(), kept, archived=archived)
