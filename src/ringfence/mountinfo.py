"""The table of what a process sees mounted: /proc/PID/mountinfo (proc_pid_mountinfo(5)).

Names in it are chosen by whoever may mount. The kernel escapes space, tab, newline and backslash
in them, and nothing else: all other white space, and bytes that are no UTF-8, are part of a name.
"""

from __future__ import annotations

import re

import msgspec

_OCTAL = re.compile(rb"\\([0-7]{3})")


class Row(msgspec.Struct, frozen=True, gc=False):
    """One mount: what of the file system (`root`) is mounted at `point`.

    `number` is the mount's own, which no other has as long as it is there; `parent` is that of the
    mount that it is mounted on. `device` is major:minor; `options` are the mount's own, `of_all`
    those that hold for every mount of the file system, both as they stand there: a comma within one
    is escaped. Names are the bytes that they have.
    """

    number: int
    parent: int
    device: bytes
    root: bytes
    point: bytes
    options: bytes
    kind: bytes
    source: bytes
    of_all: bytes


def rows(table: bytes) -> list[Row]:
    """All mounts, in the kernel's order; lines that make no sense are left out."""
    return [row for line in table.split(b"\n") if (row := _row(line)) is not None]


def _row(line: bytes) -> Row | None:
    parts = line.split(b" ")
    try:
        dash = parts.index(b"-", 6)  # it ends the optional fields
        kind, source, of_all = parts[dash + 1 : dash + 4]
        number, parent = int(parts[0]), int(parts[1])
    except ValueError:
        return None
    device, root, point, options = parts[2:6]
    return Row(
        number, parent, device, unescaped(root), unescaped(point), options, unescaped(kind),
        unescaped(source), of_all,
    )  # fmt: skip


def unescaped(raw: bytes) -> bytes:
    """A name, or the value of an option, as it is."""
    if b"\\" not in raw:
        return raw
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), raw)


def reached(table: list[Row]) -> set[int]:
    """The numbers of the mounts that some path leads to from the root directory whose table it is.

    A mount hides what is below its point in the mount that it is mounted on: mounts there as well,
    whichever came first, and all of that mount where it lies on its root. What is mounted over the
    root directory itself is entered by no path but `/..`, and is left out.
    """
    on: dict[int, list[Row]] = {}
    for row in table:
        on.setdefault(row.parent, []).append(row)
    known = {row.number for row in table}
    # The root directory may be no mount's root (chroot(2)): what lies on it has a parent unlisted.
    tops = [row for row in table if row.parent not in known]
    found: set[int] = set()
    covered: set[int] = set()
    queue = tops if len(tops) == 1 else _uncovered(tops, b"/")
    while queue:
        row = queue.pop()
        if row.number not in found:
            found.add(row.number)
            above = _uncovered(on.get(row.number, []), row.point)
            covered.update(row.number for over in above if over.point == row.point)
            queue += above
    return found - covered


def _uncovered(siblings: list[Row], point: bytes) -> list[Row]:
    """Of mounts on one mount at `point` those that no other one of them hides."""
    found: list[Row] = []
    above = b""
    # By whole components: what is below a point comes right after it.
    for row in sorted(siblings, key=lambda row: _folder(row.point)):
        if row.point == b"/" == point:
            continue
        folder = _folder(row.point)
        if not above or not folder.startswith(above):
            found.append(row)
            above = folder
    return found


def _folder(point: bytes) -> bytes:
    return point.rstrip(b"/") + b"/"
