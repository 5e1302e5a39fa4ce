"""What a check found, as other tools read it. The names are those of docs/watch.md."""

from __future__ import annotations

import base64

import msgspec

Value = str | int | bool | None


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One path that differs: `attributes` maps a name to [before, after], null where there is
    nothing. `path` starts with a slash; bytes that are no UTF-8 are written as `\\xNN`, and
    `path_bytes` then has the name in base64, and alone tells which file it is."""

    path: str
    severity: str
    what: str
    attributes: dict[str, tuple[Value, Value]]
    path_bytes: str | None = None

    @property
    def name(self) -> bytes:
        """The path as the file system has it, with its slash."""
        return _name(self.path, self.path_bytes)


class Unseen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What could not be looked at, and why; `path` and `path_bytes` as of what differs."""

    path: str
    why: str
    path_bytes: str | None = None

    @property
    def name(self) -> bytes:
        """The path as the file system has it, with its slash."""
        return _name(self.path, self.path_bytes)


def _name(path: str, path_bytes: str | None) -> bytes:
    return path.encode() if path_bytes is None else base64.b64decode(path_bytes)


class Checked(msgspec.Struct, frozen=True):
    """What the check did: entries looked at, files and bytes read, entries that were taken as
    unchanged by their status alone (a quick check)."""

    entries: int
    files_read: int
    bytes_read: int
    taken_by_status: int


class Subject(msgspec.Struct, frozen=True):
    """The target: its kind and name."""

    kind: str
    name: str


class Report(msgspec.Struct, frozen=True):
    """A watch check. `mode` is `full` or `quick`; `verified` is true whenever there is a report:
    a baseline that is not to be trusted gives none. `sealed_by` is the public key in hexadecimal,
    `sealed_at` in seconds since 1970. `not_compared` are attributes that one side cannot tell;
    `updated`: a new baseline took the place of the old one."""

    target: Subject
    baseline: str
    mode: str
    sealed_by: str
    sealed_at: int
    verified: bool
    checked: Checked
    added: tuple[Item, ...]
    removed: tuple[Item, ...]
    changed: tuple[Item, ...]
    unseen: tuple[Unseen, ...]
    not_compared: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    updated: bool = False

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.added or self.removed or self.changed)
