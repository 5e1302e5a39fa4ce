"""Owners of files as a user namespace has them: an image's own, where a container runs with its
ids moved elsewhere (user_namespaces(7))."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ringfence.watch.baseline.entry import Entry

Rows = tuple[tuple[int, int, int], ...]
WHOLE: Rows = ((0, 0, 0xFFFFFFFF),)
NOBODY = 65534
"""What an id that the namespace does not have looks like inside (kernel.overflowuid)."""


class Owners(msgspec.Struct, frozen=True):
    """Rows (inside, outside, count) of a process's uid_map and gid_map."""

    users: Rows
    groups: Rows

    def inside(self, entry: Entry) -> Entry:
        """The entry with the owners that the namespace sees."""
        uid, gid = _inside(entry.uid, self.users), _inside(entry.gid, self.groups)
        return msgspec.structs.replace(entry, uid=uid, gid=gid)


def owners_of(process: Path) -> Owners | None:
    """Those of a folder of /proc; None where they are this host's. Raises OSError."""
    found = Owners(_rows(process / "uid_map"), _rows(process / "gid_map"))
    return None if found == Owners(WHOLE, WHOLE) else found


def _rows(path: Path) -> Rows:
    lines = (line.split() for line in path.read_text().splitlines())
    return tuple((int(inside), int(outside), int(count)) for inside, outside, count in lines)


def _inside(number: int | None, rows: Rows) -> int | None:
    if number is None:
        return None
    for inside, outside, count in rows:
        if outside <= number < outside + count:
            return inside + number - outside
    return NOBODY
