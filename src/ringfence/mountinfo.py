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

    `device` is major:minor; `options` are the mount's own, `of_all` those that hold for every mount
    of the file system, both as they stand there: a comma within one is escaped. Names are the bytes
    that they have.
    """

    device: bytes
    root: bytes
    point: bytes
    options: bytes
    kind: bytes
    source: bytes
    of_all: bytes
    number: bytes = b""
    """The mount's id: no other mount has it as long as this one is there."""


def rows(table: bytes) -> list[Row]:
    """All mounts, in the kernel's order; lines that make no sense are left out."""
    return [row for line in table.split(b"\n") if (row := _row(line)) is not None]


def _row(line: bytes) -> Row | None:
    parts = line.split(b" ")
    try:
        dash = parts.index(b"-", 6)  # it ends the optional fields
        kind, source, of_all = parts[dash + 1 : dash + 4]
    except ValueError:
        return None
    return Row(
        parts[2],
        unescaped(parts[3]),
        unescaped(parts[4]),
        parts[5],
        unescaped(kind),
        unescaped(source),
        of_all,
        parts[0],
    )


def unescaped(raw: bytes) -> bytes:
    """A name, or the value of an option, as it is."""
    if b"\\" not in raw:
        return raw
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), raw)
