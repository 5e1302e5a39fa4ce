"""Accounts equivalent to root, and users whom a sudo or polkit rule names. No password is read."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ringfence.model.evidence import Unseen
from ringfence.model.kernel import Account

_RULE = re.compile(r"^\s*([%+]?[A-Za-z_][\w.-]*)\s+\S+\s*=", re.MULTILINE)


def accounts() -> tuple[tuple[Account, ...], tuple[Unseen, ...]]:
    """Root-equivalent users and those that sudo's rules name, and what could not be read."""
    users = _users()
    found = [Account(name, uid, "uid 0") for name, uid, _ in users if uid == 0]
    named, unseen = _sudo_names()
    groups = _group_members()
    for name, uid, group in users:
        mine = {f"%{item}" for item, members in groups.items() if name in members[1]}
        mine |= {f"%{item}" for item, members in groups.items() if members[0] == group}
        if name in named or mine & named:
            found.append(Account(name, uid, "sudo"))
    return tuple(found), unseen


def _users() -> list[tuple[str, int, int]]:
    rows = (line.split(":") for line in _text("/etc/passwd").splitlines())
    return [
        (row[0], int(row[2]), int(row[3]))
        for row in rows
        if len(row) > 3 and row[2].isdigit() and row[3].isdigit()
    ]


def _group_members() -> dict[str, tuple[int, frozenset[str]]]:
    rows = (line.split(":") for line in _text("/etc/group").splitlines())
    return {
        row[0]: (int(row[2]), frozenset(row[3].split(",")))
        for row in rows
        if len(row) > 3 and row[2].isdigit()
    }


def _sudo_names() -> tuple[frozenset[str], tuple[Unseen, ...]]:
    named: set[str] = set()
    unseen: list[Unseen] = []
    for path in (Path("/etc/sudoers"), *sorted(Path("/etc").glob("sudoers.d/*"))):
        try:
            text = path.read_text(errors="replace")
        except FileNotFoundError:
            continue
        except OSError as error:
            unseen.append(Unseen(f"sudo rules in {path}", os.strerror(error.errno or 0).lower()))
            continue
        words = {word for word in _RULE.findall(text) if not word.startswith("Defaults")}
        named |= words - {"root"}
    return frozenset(named), tuple(unseen)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
