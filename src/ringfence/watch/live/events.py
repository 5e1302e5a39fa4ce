"""What a read from a fanotify group gives: events with their information records. Pure.

Layouts are those of include/uapi/linux/fanotify.h: an event is 24 bytes of metadata and records,
each of which begins with its type and length.
"""

from __future__ import annotations

import struct

import msgspec

VERSION = 3
FID, DFID_NAME, DFID, PIDFD, OLD_DFID_NAME, NEW_DFID_NAME = 1, 2, 3, 4, 10, 12
NO_PIDFD, BROKEN_PIDFD = -1, -2
_META = struct.Struct("=IBBHQii")
_INFO = struct.Struct("=BBH")
_FID = struct.Struct("=8sIi")
_PIDFD = struct.Struct("=i")


class BadEvents(ValueError):
    """These bytes are not what the kernel's header describes."""


class Named(msgspec.Struct, frozen=True):
    """A name in a folder; `folder` is the folder's key (handles.py)."""

    folder: bytes
    name: bytes


class Event(msgspec.Struct, frozen=True):
    """One event. `fd` is -1 in a group that reports handles; `pidfd` is -1 where the process was
    gone when the event was read, -2 where no descriptor could be made, None where none is
    reported. `child` is the key of what happened to `at`, b'' where it is not told.
    `old` and `new` are of a rename; one of them is missing where its folder has no mark."""

    mask: int
    fd: int
    pid: int
    pidfd: int | None = None
    child: bytes = b""
    at: Named | None = None
    old: Named | None = None
    new: Named | None = None


def parse(data: bytes) -> list[Event]:
    """All events of one read. Raises BadEvents; nothing outside `data` is ever looked at."""
    found = []
    place = 0
    while place < len(data):
        if len(data) - place < _META.size:
            raise BadEvents("an event is cut short")
        length, version, _, meta, mask, fd, pid = _META.unpack_from(data, place)
        if version != VERSION:
            raise BadEvents(f"version {version}, not {VERSION}")
        if not _META.size <= meta <= length <= len(data) - place:
            raise BadEvents(f"lengths {meta} and {length} do not fit")
        found.append(_event(mask, fd, pid, data[place + meta : place + length]))
        place += length
    return found


def _event(mask: int, fd: int, pid: int, records: bytes) -> Event:
    pidfd: int | None = None
    child = b""
    names: dict[int, Named] = {}
    place = 0
    while place < len(records):
        if len(records) - place < _INFO.size:
            raise BadEvents("a record is cut short")
        kind, _, length = _INFO.unpack_from(records, place)
        if not _INFO.size <= length <= len(records) - place:
            raise BadEvents(f"a record of {length} bytes does not fit")
        body = records[place + _INFO.size : place + length]
        place += length
        if kind == PIDFD:
            if len(body) < _PIDFD.size:
                raise BadEvents("a pidfd is cut short")
            pidfd = _PIDFD.unpack_from(body)[0]
        elif kind == FID:
            child = _handle(body)
        elif kind in (DFID, DFID_NAME, OLD_DFID_NAME, NEW_DFID_NAME):
            names[kind] = _named(body, bare=kind == DFID)
    at = names.get(DFID_NAME) or names.get(DFID)
    return Event(mask, fd, pid, pidfd, child, at, names.get(OLD_DFID_NAME),
                 names.get(NEW_DFID_NAME))  # fmt: skip


def _handle(body: bytes) -> bytes:
    """The key at the start of a record's body."""
    if len(body) < _FID.size:
        raise BadEvents("a handle is cut short")
    length = _FID.unpack_from(body)[1]
    if length > len(body) - _FID.size:
        raise BadEvents(f"a handle of {length} bytes does not fit")
    return body[: _FID.size + length]


def _named(body: bytes, *, bare: bool) -> Named:
    key = _handle(body)
    if bare:
        return Named(key, b".")
    name, zero, _ = body[len(key) :].partition(b"\0")
    if not zero or not name or b"/" in name:
        raise BadEvents("a name makes no sense")
    return Named(key, name)
