"""Whom the sudo rules below a root directory name (sudoers(5)): read, never run.

What cannot be resolved here (a line that is not of a plain form, a netgroup, rules that are
included or configured from elsewhere, doas) leaves all of it unknown, for it may name anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ringfence.collect.files.sudolines import FOLDERS, Named, Unresolved, named_in
from ringfence.collect.files.way import Shuns, names_at, text_at
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.files import SudoRules

RULES = ("/etc/sudoers", "/usr/etc/sudoers", "/usr/local/etc/sudoers")
OTHERS = ("/etc/doas.conf", "/usr/local/etc/doas.conf", "/etc/sudoers-rs")
"""Rules of other programs like sudo, which are not read."""
CONFIGURATIONS = ("/etc/sudo.conf", "/usr/etc/sudo.conf", "/usr/local/etc/sudo.conf")
SOURCES = "/etc/nsswitch.conf"
MOST_BYTES = 1 << 20
"""Of all rules together, and of each other file."""
MOST_FILES = 64
MOST_ID = (1 << 32) - 1

_USUAL = re.compile(
    r"(?:#.*|Plugin[ \t]+sudoers_(?:policy|io|audit)[ \t]+sudoers\.so"
    r"|Set[ \t]+(?:disable_coredump|group_source|max_groups|probe_interfaces)[ \t]+[a-z0-9]+"
    r"|Path[ \t]+(?:askpass|noexec|sesh)[ \t]+[^ \t#]+)?"
)
"""Lines of sudo.conf(5) that leave the rules where they are."""
_FILES_ALONE = re.compile(r"sudoers:[ \t]*files[ \t]*(?:#.*)?")
_ACCOUNT = re.compile(r"([^:\s\0+-][^:\0]*):[^:\0]*:([0-9]{1,10}):([^:\0]*)(?::.*)?")


def sudo_rules(root: str, shuns: Shuns) -> Seen[SudoRules]:
    """Whom sudo rules name, numbered by the accounts below `root`; not known where something could
    not be read, or made sense of."""
    source = f"{root.rstrip('/')}/etc/sudoers"
    try:
        _check_configuration(root, shuns)
        texts = _texts(root, shuns)
        rules = _numbered(named_in(texts), root, shuns)
    except OSError as error:
        return _unknown(source, (error.strerror or "cannot be read").lower())
    except Unresolved as reason:
        return _unknown(source, str(reason))
    found = len(texts)
    detail = f"{found} file(s) of sudo rules" if found else "there are no sudo rules"
    return Seen(rules, Evidence(Grade.OBSERVED, source, detail))


def _unknown(source: str, why: str) -> Seen[SudoRules]:
    return Seen(None, Evidence(Grade.ASSUMED, source, why))


def _check_configuration(root: str, shuns: Shuns) -> None:
    """Raises OSError, and Unresolved where sudo may have its rules from elsewhere."""
    for path in CONFIGURATIONS:
        text = text_at(root, path, MOST_BYTES, shuns) or ""
        if any(line.endswith("\\") or not _USUAL.fullmatch(line) for line in _stripped(text)):
            raise Unresolved(f"{path} may tell sudo to have its rules from elsewhere")
    for line in _stripped(text_at(root, SOURCES, MOST_BYTES, shuns) or ""):
        if line.endswith("\\") or (
            line.lower().startswith("sudoers") and not _FILES_ALONE.fullmatch(line)
        ):
            raise Unresolved(f"{SOURCES} may tell sudo to have its rules from elsewhere")


def _stripped(text: str) -> Iterator[str]:
    return (line.strip() for line in text.split("\n"))


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
    texts: list[str] = []
    for path in paths:
        text = text_at(root, path, MOST_BYTES, shuns)
        if text is not None:
            texts.append(text)
        if sum(map(len, texts)) > MOST_BYTES:
            raise Unresolved(f"its sudo rules are longer than {MOST_BYTES} bytes")
    return texts


def _numbered(named: Named, root: str, shuns: Shuns) -> SudoRules:
    """Numbers of whom rules name, root left out: those of accounts alone, for sudo asks for one.

    Raises OSError and Unresolved.
    """
    if not named.users and not named.groups:
        return SudoRules(everyone=named.everyone)
    groups = list(_accounts(root, "/etc/group", shuns))
    gids = {_id(name[1:]) for name in named.groups if name[0] == "#"}
    gids |= {gid for name, gid, _ in groups if name in named.groups}
    members = {
        member.strip() for _, gid, names in groups if gid in gids for member in names.split(",")
    }
    uids = {_id(name[1:]) for name in named.users if name[0] == "#"}
    for name, uid, own in _accounts(root, "/etc/passwd", shuns):
        if name in named.users or name in members or _id(own) in gids:
            uids.add(uid)
    return SudoRules(frozenset(uids - {0}), frozenset(gids), named.everyone)


def _accounts(root: str, path: str, shuns: Shuns) -> Iterator[tuple[str, int, str]]:
    """Name and number of each line of passwd(5) or group(5), and the column after it, in small
    letters. A line of another form may be an account to the C library. Raises OSError and
    Unresolved."""
    for line in (text_at(root, path, MOST_BYTES, shuns) or "").lower().split("\n"):
        found = _ACCOUNT.fullmatch(line)
        if found is not None:
            yield found[1], _id(found[2]), found[3]
        elif line.strip() and not line.startswith("#"):
            raise Unresolved(f"{path} has a line of another form")


def _id(digits: str) -> int:
    """Raises Unresolved where it is no number that a user or group can have."""
    if not re.fullmatch(r"[0-9]{1,10}", digits) or int(digits) > MOST_ID:
        raise Unresolved("it has a user or group whose number makes no sense")
    return int(digits)
