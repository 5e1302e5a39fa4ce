"""Whom the sudo rules below a root directory name (sudoers(5)): read, never run.

What cannot be resolved here (a netgroup, rules that are included from elsewhere, doas) leaves all
of it unknown, for it may name anybody.
"""

from __future__ import annotations

import os
import re

import msgspec

from ringfence.collect.files.way import Shuns, names_at, text_at
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.files import SudoRules

RULES = ("/etc/sudoers", "/usr/etc/sudoers", "/usr/local/etc/sudoers")
FOLDERS = ("/etc/sudoers.d", "/usr/etc/sudoers.d", "/usr/local/etc/sudoers.d")
OTHERS = ("/etc/doas.conf", "/usr/local/etc/doas.conf")
"""Rules of other programs like sudo, which are not read."""
MOST_BYTES = 1 << 20
MOST_FILES = 64

_INCLUDE = re.compile(r'[#@]include(?:dir)?\s+"?([^"]*?)"?\s*')
_ALIAS = re.compile(r"(User|Runas|Host|Cmnd|Cmd)_Alias\s+(.*)")
_COMMENT = re.compile(r"#(?![0-9]).*")
_NAME = re.compile(r"[A-Za-z_][\w.@-]*\$?")


class Unresolved(Exception):
    """Something in the rules that may name anybody."""


class _Named(msgspec.Struct):
    """Whom rules name: users and groups, by name or as `#number`."""

    users: set[str] = set()
    groups: set[str] = set()
    everyone: bool = False


def sudo_rules(root: str, shuns: Shuns) -> Seen[SudoRules]:
    """Whom sudo rules name, numbered by the accounts below `root`; not known where something could
    not be read, or made sense of."""
    source = f"{root.rstrip('/')}/etc/sudoers"
    try:
        texts = _texts(root, shuns)
        named = _named(texts)
        rules = _numbered(named, *(text_at(root, path, MOST_BYTES, shuns) or ""
                                   for path in ("/etc/passwd", "/etc/group")))  # fmt: skip
    except OSError as error:
        return _unknown(source, (error.strerror or "cannot be read").lower())
    except Unresolved as reason:
        return _unknown(source, str(reason))
    found = len(texts)
    detail = f"{found} file(s) of sudo rules" if found else "there are no sudo rules"
    return Seen(rules, Evidence(Grade.OBSERVED, source, detail))


def _unknown(source: str, why: str) -> Seen[SudoRules]:
    return Seen(None, Evidence(Grade.ASSUMED, source, why))


def _texts(root: str, shuns: Shuns) -> list[str]:
    """All files of rules. Raises OSError and Unresolved."""
    paths = list(RULES)
    for folder in FOLDERS:
        paths += [f"{folder}/{name}" for name in names_at(root, folder, shuns)]
    if len(paths) > MOST_FILES:
        raise Unresolved(f"there are more than {MOST_FILES} files of sudo rules")
    for path in OTHERS:
        if text_at(root, path, MOST_BYTES, shuns) is not None:
            raise Unresolved(f"{path} has rules like sudo's, which are not read")
    texts = (text_at(root, path, MOST_BYTES, shuns) for path in paths)
    return [text for text in texts if text is not None]


def _named(texts: list[str]) -> _Named:
    """Raises Unresolved."""
    lines = [line.strip() for text in texts for line in text.replace("\\\n", " ").split("\n")]
    aliases: dict[str, list[str]] = {}
    lists: list[str] = []
    for line in lines:
        included = _INCLUDE.fullmatch(line)
        if included is not None:
            if os.path.normpath(included[1]) not in FOLDERS:
                raise Unresolved("its sudo rules include others, which are not read")
            continue
        line = _COMMENT.sub("", line).strip()
        alias = _ALIAS.fullmatch(line)
        if alias is not None:
            if alias[1] == "User":
                _add_aliases(alias[2], aliases)
        elif line and not line.startswith("Defaults"):
            lists.append(_users_of(line))
    named = _Named()
    for users in lists:
        _resolve(users, aliases, named, frozenset())
    return named


def _add_aliases(text: str, aliases: dict[str, list[str]]) -> None:
    """`NAME = user, user : NAME = user`."""
    for part in text.split(":"):
        name, equals, members = part.partition("=")
        if not equals:
            raise Unresolved("an alias of its sudo rules makes no sense")
        aliases.setdefault(name.strip(), []).append(members)


def _users_of(line: str) -> str:
    """The users of a rule: `users hosts = commands`, where commas join what is a list."""
    left = re.sub(r"\s*,\s*", ",", line.partition("=")[0]).strip()
    if "=" not in line or '"' in left or "\\" in left:
        raise Unresolved("a line of its sudo rules is of another form")
    return re.sub(r"!\s+", "!", left).split()[0]


def _resolve(
    users: str, aliases: dict[str, list[str]], named: _Named, within: frozenset[str]
) -> None:
    """Add all that a list of users may name. Who is excepted (`!`) is passed over."""
    for item in (word.strip() for word in users.split(",")):
        if item.startswith("!"):
            continue
        if item == "ALL":
            named.everyone = True
        elif item in aliases:
            for members in aliases[item] if item not in within else ():
                _resolve(members, aliases, named, within | {item})
        elif re.fullmatch(r"#[0-9]+", item) or _NAME.fullmatch(item):
            named.users.add(item)
        elif re.fullmatch(r"%#[0-9]+", item) or (_NAME.fullmatch(item[1:]) and item[0] == "%"):
            named.groups.add(item[1:])
        else:
            raise Unresolved("its sudo rules name users in a way that is not resolved")


def _numbered(named: _Named, passwd: str, group: str) -> SudoRules:
    """Numbers of whom rules name, root left out: those of accounts alone, for sudo asks for one."""
    gids = {int(name[1:]) for name in named.groups if name[0] == "#"}
    members: set[str] = set()
    for name, _, number, names in _table(group, 4):
        if name in named.groups or (number.isdigit() and int(number) in gids):
            gids.add(int(number))
            members.update(names.split(","))
    uids = {int(name[1:]) for name in named.users if name[0] == "#"}
    for name, _, number, first in _table(passwd, 4):
        if name in named.users or name in members or (first.isdigit() and int(first) in gids):
            uids.add(int(number))
    return SudoRules(frozenset(uids - {0}), frozenset(gids), named.everyone)


def _table(text: str, columns: int) -> list[list[str]]:
    """The first columns of passwd(5) or group(5); lines whose third is no number are left out."""
    rows = (line.split(":") for line in text.split("\n"))
    return [row[:columns] for row in rows if len(row) >= columns and row[2].isdigit()]
