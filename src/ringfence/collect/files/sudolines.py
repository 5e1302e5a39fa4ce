"""Whom lines of sudoers(5) name, of the plain forms alone: those of which every version of sudo is
certain to make the same.

Any other line is refused, for it may name anybody: a grammar that is nearly sudo's would pass over
rules that sudo follows. More may be named here than sudo lets in (who is excepted later, a command
that is denied), never less. The time it takes grows as the text does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import msgspec

FOLDERS = ("/etc/sudoers.d", "/usr/etc/sudoers.d", "/usr/local/etc/sudoers.d")
"""Folders of rules, which may be included, for all files in them are read."""

_BLANKS = re.compile(r"[ \t]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_COMMENT = re.compile(r"(?:^| )#(?:$|[^0-9-].*|-[^0-9].*)")
"""`#7` and `#-7` are users. What follows a comment's `#` is its own, a `\\` at the end, too."""
_INCLUDE = re.compile(r'[#@]includedir ("?)([^" ]+)\1')
_ALIAS = re.compile(r"(User|Runas|Host|Cmnd|Cmd)_Alias (.*)")
_DEFINITION = re.compile(r"([A-Z][A-Z0-9_]*) ?= ?(.+)")
_VALUE = r'(?:"[^"]*"|[^ ,"=#()!]+)'
_SETTING = rf"(?:!*[a-z_]+|[a-z_]+ ?[+-]?= ?{_VALUE})"
_DEFAULTS = re.compile(rf'Defaults(?:[:@>!][^ "=#()]+)? {_SETTING}(?: ?, ?{_SETTING})*')
_PLAIN = re.compile(r'(?:[^="#]|"")+')
"""Hosts or commands: without a second `=`, for older versions begin a second rule there."""
_USER = re.compile(r"(!?)(%?(?:#[0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.@-]*\$?))")
_ALIAS_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


class Unresolved(Exception):
    """Something in the rules that may name anybody."""


class Named(msgspec.Struct):
    """Whom rules name: users and groups, by name in small letters or as `#number`."""

    users: set[str] = set()
    groups: set[str] = set()
    everyone: bool = False


def named_in(texts: list[str]) -> Named:
    """Whom the rules in `texts`, one for each file, name. Raises Unresolved."""
    aliases: dict[str, set[str]] = {}
    items: set[str] = set()
    for text in texts:
        for line in _lines(text):
            alias = _ALIAS.fullmatch(line)
            if alias is not None:
                _add_aliases(alias[1], alias[2], aliases)
            elif re.match(r"Defaults(?:[ :@>!]|$)", line):
                if _DEFAULTS.fullmatch(line) is None:
                    raise Unresolved("a setting in its sudo rules is of another form")
            else:
                items |= _users_of(line)
    return _resolved(items, aliases)


def _lines(text: str) -> Iterator[str]:
    """Lines as sudo joins them, single blanks between words, without comments and inclusions of
    folders that are read anyway. Raises Unresolved."""
    if _CONTROL.search(text):
        raise Unresolved("its sudo rules have control characters")
    joined: list[str] = []
    for raw in text.split("\n"):
        line = _BLANKS.sub(" ", raw).strip(" ")
        if not joined and _skipped(line):
            continue
        continued = raw.endswith("\\")
        if (continued or joined) and ("#" in line or '"' in line or line.startswith("@")):
            raise Unresolved("a line of its sudo rules is continued in a form that is not read")
        joined.append(line[:-1].strip(" ") if continued else _COMMENT.sub("", line))
        if continued:
            continue
        whole = " ".join(part for part in joined if part)
        if "\\" in whole:
            raise Unresolved("its sudo rules have a backslash that is not resolved")
        if whole:
            yield whole
        joined = []
    if joined:
        raise Unresolved("the last line of its sudo rules is continued")


def _skipped(line: str) -> bool:
    """Whether a line is a comment, or includes what is read anyway. Raises Unresolved."""
    if line.startswith(("#include", "@")):
        included = _INCLUDE.fullmatch(line)
        if included is None or included[2].removesuffix("/") not in FOLDERS:
            raise Unresolved("its sudo rules include others, which are not read")
        return True
    return not line or (line[0] == "#" and _COMMENT.fullmatch(line) is not None)


def _add_aliases(kind: str, text: str, aliases: dict[str, set[str]]) -> None:
    """`NAME = user, user : NAME = user`; of another kind, one `NAME = item, item`."""
    for part in text.split(":") if kind == "User" else [text]:
        found = _DEFINITION.fullmatch(part.strip(" "))
        if found is None or found[1] == "ALL":
            raise Unresolved("an alias of its sudo rules makes no sense")
        if kind == "User":
            aliases.setdefault(found[1], set()).update(_users(found[2]))
        elif _PLAIN.fullmatch(found[2]) is None:
            raise Unresolved("an alias of its sudo rules is of another form")


def _users_of(line: str) -> set[str]:
    """The users of a rule: `users hosts = commands`."""
    left, _, commands = line.partition("=")
    words = re.sub(r" ?, ?", ",", left).replace("! ", "!").strip(" ").split(" ")
    if len(words) != 2 or not all(_PLAIN.fullmatch(part) for part in (words[1], commands)):
        raise Unresolved("a line of its sudo rules is of another form")
    return _users(words[0])


def _users(text: str) -> set[str]:
    """Who in a list of users is let in. Who is excepted (`!`) never is, unless it is an alias: one
    that excepts, excepted, lets in. Raises Unresolved."""
    found: set[str] = set()
    for item in text.split(","):
        user = _USER.fullmatch(item.strip(" ").replace("! ", "!"))
        if user is None or (user[1] and _ALIAS_NAME.fullmatch(user[2])):
            raise Unresolved("its sudo rules name users in a way that is not resolved")
        if not user[1]:
            found.add(user[2])
    return found


def _resolved(items: set[str], aliases: dict[str, set[str]]) -> Named:
    """All whom `items` stand for. Names count in any case, as they do by default, and one in
    capitals is a user's where no alias has it. Raises Unresolved."""
    try:
        TopologicalSorter(aliases).prepare()
    except CycleError:
        raise Unresolved("an alias of its sudo rules is part of itself") from None
    named, seen, left = Named(), set(items), list(items)
    while left:
        item = left.pop()
        if item == "ALL":
            named.everyone = True
        elif item in aliases:
            left += aliases[item] - seen
            seen |= aliases[item]
        elif item[0] == "%":
            named.groups.add(item[1:].lower())
        else:
            named.users.add(item.lower())
    return named
