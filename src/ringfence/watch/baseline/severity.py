"""How much a change weighs, by what the file is. Pure; a table walked from the top."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum

import msgspec

from ringfence.watch.baseline.entry import BLOCK, CHAR, FILE, Entry

SETID = 0o6000
EXECUTE = 0o111
CAPABILITY = b"security.capability"


class Severity(StrEnum):
    """From what gives an attacker the system to what a service does every day."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Meaning(msgspec.Struct, frozen=True):
    """What a file is, in words, and how much its change weighs."""

    what: str
    severity: Severity


Test = Callable[[str, Entry], bool]


def _path(pattern: str) -> Test:
    compiled = re.compile(pattern)
    return lambda path, entry: compiled.search(path) is not None


def _set_id(path: str, entry: Entry) -> bool:
    return entry.kind == FILE and bool((entry.mode or 0) & SETID) and _runs(path, entry)


def _capable(path: str, entry: Entry) -> bool:
    return any(name == CAPABILITY for name, _ in entry.xattrs or ())


def _runs(path: str, entry: Entry) -> bool:
    return entry.kind == FILE and bool((entry.mode or 0) & EXECUTE)


def _writable_program(path: str, entry: Entry) -> bool:
    return _runs(path, entry) and bool((entry.mode or 0) & 0o002)


TABLE: tuple[tuple[Test, Meaning], ...] = (
    (_set_id, Meaning("setuid program", Severity.CRITICAL)),
    (_capable, Meaning("program with capabilities", Severity.CRITICAL)),
    (lambda _, entry: entry.kind in (BLOCK, CHAR), Meaning("device", Severity.CRITICAL)),
    (lambda _, entry: bool(entry.mount), Meaning("mount point", Severity.CRITICAL)),
    (
        _path(r"/etc/(ld\.so\.(preload|conf)|shadow|gshadow|passwd|group|sudoers|pam\.|security/)"
              r"|/\.ssh/authorized_keys|/etc/ssh/"),
        Meaning("account or access configuration", Severity.CRITICAL),
    ),
    (_writable_program, Meaning("program that anyone may write", Severity.CRITICAL)),
    (_path(r"^/boot/|/lib/modules/|\.ko(\.xz|\.zst|\.gz)?$"), Meaning("kernel", Severity.HIGH)),
    (_path(r"\.so(\.[0-9.]+)?$|/ld-linux"), Meaning("library", Severity.HIGH)),
    (
        _path(r"/(systemd/(system|user)|init\.d|cron[^/]*|rc[0-9S]\.d|udev/rules\.d)/|/crontab$"),
        Meaning("start-up configuration", Severity.HIGH),
    ),
    (_runs, Meaning("program", Severity.HIGH)),
    (_path(r"/s?bin/"), Meaning("program", Severity.HIGH)),
    (_path(r"\.(py|pyc|pl|pm|rb|js|php|sh|jar|class)$"), Meaning("code", Severity.HIGH)),
    (
        _path(r"^/etc/|/etc/.*\.d/|\.(conf|cnf|cfg|ini|toml|ya?ml|service|json)$"),
        Meaning("configuration", Severity.MEDIUM),
    ),
    (_path(r"^/(var/)?(log|tmp|run|cache|spool)/|/var/(log|cache)/"),
     Meaning("log or temporary file", Severity.LOW)),
)  # fmt: skip
DATA = Meaning("data", Severity.LOW)
_RANK = {severity: place for place, severity in enumerate(Severity)}


def meaning(path: str, old: Entry | None, new: Entry | None) -> Meaning:
    """What the file at `path` (with a leading slash) was or is, whichever weighs more."""
    found = [_of(path, entry) for entry in (old, new) if entry is not None]
    return min(found, key=lambda item: _RANK[item.severity], default=DATA)


def _of(path: str, entry: Entry) -> Meaning:
    return next((item for test, item in TABLE if test(path, entry)), DATA)
