"""What a verified baseline says of one path, without all of it being unpacked at once."""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from ringfence.watch.baseline.entry import Entry, Group, key
from ringfence.watch.baseline.store import Frame, Header, Sealed, unpacked

MOST_FRAMES = 128
"""Frames that are held unpacked, of about 400 entries each."""
_Unpacked = dict[tuple[bytes, bytes], Entry]


class Known:
    """A baseline in memory, verified from its first byte to its last. Raises InputError."""

    def __init__(self, path: Path, public: bytes) -> None:
        with contextlib.closing(Sealed(path, public)) as sealed:
            self.header: Header = sealed.header
            self._frames: list[Frame] = list(sealed.frames())
        self._keys = [key(frame.folder, frame.name) for frame in self._frames]
        self._open: OrderedDict[int, _Unpacked] = OrderedDict()

    def entry(self, folder: bytes, name: bytes) -> Entry | None:
        """The entry of a file; the root's own is ('', '')."""
        place = bisect_left(self._keys, key(folder, name))
        if place == len(self._frames):
            return None
        found = self._open.get(place)
        if found is None:
            groups = unpacked(self._frames[place].body)
            found = {(of, entry.name): entry for of, entries in groups for entry in entries}
            self._open[place] = found
            if len(self._open) > MOST_FRAMES:
                self._open.popitem(last=False)
        self._open.move_to_end(place)
        return found.get((folder, name))

    def groups(self) -> Iterator[Group]:
        """Everything, in order."""
        for frame in self._frames:
            yield from unpacked(frame.body)
