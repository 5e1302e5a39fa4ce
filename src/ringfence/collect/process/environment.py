"""Environment variables whose names look like secrets. Values never leave this module."""

from __future__ import annotations

import re

from ringfence.collect.process import procfs
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.process import EnvironmentHint

_NAMES = re.compile(
    r"(PASS(WORD|WD|PHRASE)?|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|CREDENTIALS?|ACCESS_?KEY|AUTH)"
    r"(_|$)|_(DSN|KEY)$",
    re.IGNORECASE,
)
_URL_WITH_PASSWORD = re.compile(rb"[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@", re.IGNORECASE)
_MASK = re.compile(r"[^A-Za-z0-9_.-]")


def environment(pid: int) -> Seen[tuple[EnvironmentHint, ...]]:
    """Hints at secrets in the process's first environment: names and reasons only."""
    source = f"/proc/{pid}/environ"
    try:
        data = procfs.whole(pid, "environ")
    except OSError as error:
        return procfs.refused(source, error)
    hints = tuple(found for entry in data.split(b"\0") if (found := hint(entry)) is not None)
    return Seen(hints, Evidence(Grade.OBSERVED, source, f"{len(hints)} names look like secrets"))


def hint(entry: bytes) -> EnvironmentHint | None:
    """What one `NAME=value` entry hints at; the value is looked at and dropped."""
    raw, equals, value = entry.partition(b"=")
    if not equals or not value:
        return None
    # A name is the other side's choice too: bounded, and nothing but plain characters.
    name = _MASK.sub("?", raw[:64].decode("utf-8", "replace"))
    if _NAMES.search(name):
        return EnvironmentHint(name, "its name says so")
    if _URL_WITH_PASSWORD.search(value):
        return EnvironmentHint(name, "a URL with a password in it")
    return None
