"""Entries that come in any order, kept on disk and given back in a baseline's order.

SQLite is the sorter: an image of a million files then needs no more memory than one of ten.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator

import msgspec

from ringfence.watch.baseline.entry import DIRECTORY, Entry, Group

CACHE = -24_000
"""Pages kept in memory, in KiB (a negative number: https://www.sqlite.org/pragma.html)."""
MOST_ENTRIES = 128
"""Entries of one group given back."""

_decode = msgspec.msgpack.Decoder(Entry).decode
_encode = msgspec.msgpack.Encoder().encode


class Sorter:
    """A temporary table of entries by folder and name; a later one takes the place of a former."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="ringfence-")
        self._base = sqlite3.connect(f"{self._place.name}/entries", isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size={CACHE}"):
            self._base.execute(f"PRAGMA {pragma}")
        self._base.execute(
            "CREATE TABLE entry (folder BLOB, name BLOB, layer INTEGER, body BLOB, "
            "PRIMARY KEY (folder, name)) WITHOUT ROWID"
        )
        self._base.execute("BEGIN")

    def put(self, folder: bytes, entry: Entry, layer: int = 0) -> None:
        """Keep `entry`, which `layer` brings."""
        row = _place(folder), entry.name, layer, _encode(entry)
        self._base.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?)", row)

    def imply(self, folder: bytes, name: bytes, layer: int = 0) -> None:
        """A folder that something lies in, and of which nothing else may be known."""
        row = _place(folder), name, layer, _encode(Entry(name, DIRECTORY))
        self._base.execute("INSERT OR IGNORE INTO entry VALUES (?, ?, ?, ?)", row)

    def get(self, folder: bytes, name: bytes) -> Entry | None:
        """The entry, where there is one."""
        found = self._base.execute(
            "SELECT body FROM entry WHERE folder = ? AND name = ?", (_place(folder), name)
        ).fetchone()
        return None if found is None else _decode(found[0])

    def remove(self, folder: bytes, name: bytes, below: int) -> None:
        """Take out an entry that a layer lower than `below` brought."""
        self._base.execute(
            "DELETE FROM entry WHERE folder = ? AND name = ? AND layer < ?",
            (_place(folder), name, below),
        )

    def empty(self, folder: bytes, below: int) -> None:
        """Take out everything in and below `folder` that a layer lower than `below` brought."""
        place = _place(folder)
        low, high = (place + b"\0", place + b"\1") if place else (b"", b"\xff" * 8)
        self._base.execute(
            "DELETE FROM entry WHERE (folder = ? OR folder >= ? AND folder < ?) "
            "AND name <> x'' AND layer < ?",
            (place, low, high, below),
        )

    def groups(self) -> Iterator[Group]:
        """All entries in order."""
        last: bytes | None = None
        entries: list[Entry] = []
        rows = self._base.execute("SELECT folder, body FROM entry ORDER BY folder, name")
        for place, body in rows:
            if place != last or len(entries) >= MOST_ENTRIES:
                if entries and last is not None:
                    yield last.replace(b"\0", b"/"), entries
                last, entries = place, []
            entries.append(_decode(body))
        if entries and last is not None:
            yield last.replace(b"\0", b"/"), entries

    def close(self) -> None:
        """Remove the table."""
        self._base.close()
        self._place.cleanup()


def _place(folder: bytes) -> bytes:
    return folder.replace(b"/", b"\0")
