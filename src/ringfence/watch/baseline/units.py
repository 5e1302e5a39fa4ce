"""Cuts a walk into units of work, and lines them up with the frames of a baseline. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from ringfence.watch.baseline.entry import Key, key
from ringfence.watch.baseline.store import Frame
from ringfence.watch.baseline.walk import Listing

MOST_NAMES = 160
MOST_BYTES = 80 << 10
"""Names, and bytes of names and folders, of one unit: a packet of the pool has to hold them beside
a frame."""


class Unit(msgspec.Struct, frozen=True):
    """Files to look at, and the baseline's frame of the same stretch (b'' for none).

    Of the frame, only the entries after `low` and up to `high` are this unit's; None: no bound.
    """

    listings: list[Listing]
    body: bytes = b""
    low: Key | None = None
    high: Key | None = None

    def packed(self) -> bytes:
        """The unit as a packet of the pool. Names are joined by the one byte that none of them can
        hold: each as a thing of its own would take twice as long."""
        rows = [(start, folder, b"\0".join(names), kinds)
                for start, folder, names, kinds in self.listings]  # fmt: skip
        return _encode((rows, self.body, self.low, self.high))


_Row = tuple[int, bytes, bytes, bytes]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[_Row], bytes, Key | None, Key | None]).decode


def unit_of(packet: bytes) -> Unit:
    """The unit that was `packed`."""
    rows, body, low, high = _decode(packet)
    listings = [(start, folder, names.split(b"\0"), kinds) for start, folder, names, kinds in rows]
    return Unit(listings, body, low, high)


def batches(listings: Iterable[Listing]) -> Iterator[list[Listing]]:
    """Listings in lots of about `MOST_NAMES` names."""
    batch: list[Listing] = []
    names, size = 0, 0
    for start, folder, found, kinds in listings:
        for first in range(0, len(found), MOST_NAMES):
            piece = found[first : first + MOST_NAMES]
            own = len(folder) + 16 + sum(map(len, piece))
            if batch and (names + len(piece) > MOST_NAMES or size + own > MOST_BYTES):
                yield batch
                batch, names, size = [], 0, 0
            batch.append((start, folder, piece, kinds[first : first + MOST_NAMES]))
            names, size = names + len(piece), size + own
    if batch:
        yield batch


def aligned(listings: Iterator[Listing], frames: Iterable[Frame]) -> Iterator[Unit]:
    """Units that pair each frame with the files of its stretch, in order; then what is beyond."""
    rest = _Stream(listings)
    for frame in frames:
        lots = list(batches(rest.until(key(frame.folder, frame.name))))
        if len(lots) <= 1:
            yield Unit(lots[0] if lots else [], frame.body)
        else:
            yield from _spread(lots, frame.body)
    for lot in batches(rest.all()):
        yield Unit(lot)


def _spread(lots: list[list[Listing]], body: bytes) -> Iterator[Unit]:
    """Much was added within one frame: each lot takes the entries of its own stretch."""
    low: Key | None = None
    for place, lot in enumerate(lots):
        _, folder, names, *_ = lot[-1]
        high = key(folder, names[-1]) if place < len(lots) - 1 else None
        yield Unit(lot, body, low, high)
        low = high


class _Stream:
    """Listings that can be taken up to a key."""

    def __init__(self, listings: Iterator[Listing]) -> None:
        self._listings = listings
        self._next: deque[Listing] = deque()

    def _peek(self) -> Listing | None:
        if not self._next:
            found = next(self._listings, None)
            if found is None:
                return None
            self._next.append(found)
        return self._next[0]

    def until(self, last: Key) -> Iterator[Listing]:
        """What stands at `last` or before it."""
        while (listing := self._peek()) is not None:
            start, folder, names, kinds = listing
            place = key(folder, b"")[0]
            if place > last[0]:
                return
            self._next.popleft()
            if place < last[0]:
                yield listing
                continue
            cut = bisect_right(names, last[1])
            if cut:
                yield start, folder, names[:cut], kinds[:cut]
            if cut < len(names):
                self._next.appendleft((start, folder, names[cut:], kinds[cut:]))
                return

    def all(self) -> Iterator[Listing]:
        """Everything that is left."""
        yield from self._next
        yield from self._listings
