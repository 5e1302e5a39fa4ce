"""Command lines as they may be told: without what looks like a secret. Pure."""

from __future__ import annotations

import os
import re

from ringfence.collect.process.environment import hint

MOST_WORDS, MOST_COMMAND = 40, 2048
"""Words, and bytes of a command line, that are told."""
CUT = "[...]"
"""The last word where there are more."""
HIDDEN = "***"
_FLAG = re.compile(r"--?[A-Za-z][\w-]*")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]+@")


def told(command: bytes) -> tuple[str, ...]:
    """The words of a /proc/PID/cmdline, without what looks like a secret: values of options and
    variables that are named like one, and user names and passwords in URLs."""
    words = []
    hidden = False
    found = command[:MOST_COMMAND].rstrip(b"\0").split(b"\0")
    for raw in found[:MOST_WORDS]:
        word = os.fsdecode(raw)
        name, equals, value = word.partition("=")
        if hidden and not word.startswith("-"):
            words.append(HIDDEN)
        elif equals and value and _secret(name):
            words.append(f"{name}={HIDDEN}")
        else:
            words.append(_URL.sub(rf"\1{HIDDEN}@", word))
        hidden = not equals and _FLAG.fullmatch(word) is not None and _secret(word)
    if len(command) > MOST_COMMAND or len(found) > MOST_WORDS:
        words.append(CUT)
    return tuple(words)


def _secret(name: str) -> bool:
    plain = name.lstrip("-").replace("-", "_")
    return hint(os.fsencode(plain) + b"=x") is not None
