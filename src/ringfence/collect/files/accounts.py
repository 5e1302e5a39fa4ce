"""Whom an image's user is, by the accounts in its tree: as engines look it up."""

from __future__ import annotations

import re

ACCOUNTS = "etc/passwd"
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")
_SPACE = "\t\n\v\f\r \x85\xa0"
"""What Go's TrimSpace takes off beside Unicode's spaces: Python would take more."""


def uid_of(user: str, passwd: bytes) -> int | None:
    """The number of `user` (`name`, `uid`, either with `:group`); None for a name that no account
    has. No user is root.

    An account of that name comes first, then a number in the form that Go reads (`00`, `+0`); a
    number in an account that makes no sense is 0 (github.com/moby/sys/user). Numbers have 32 bits:
    of a larger one engines take what is left, or refuse it.
    """
    name = user.partition(":")[0]
    if not name:
        return 0
    for line in passwd.decode("utf-8", "replace").split("\n"):
        fields = line.strip(_SPACE).split(":")
        if fields[0] == name:
            return _number(fields[2]) if len(fields) > 2 else 0
    return _number(name) if _NUMBER.fullmatch(name) else None


def _number(text: str) -> int:
    return int(text) & 0xFFFFFFFF if _NUMBER.fullmatch(text) else 0
