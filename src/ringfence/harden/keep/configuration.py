"""Files and folders that configuration names, and those that the configuration there names.

Only live configuration is read: what the service opened, what its command names, and what such
files name in turn. The rest of a package's settings (modules that are available, not enabled) is
kept for reading, and does not pull in what it names.

No grammar is known: every word that is a path of the tree counts, absolute or beside the file
that names it, wildcards included. That keeps a web server's documents whole, whichever of them
an exercise asked for. Folders of the system are no content; where a web server's own words say
that one is (`root /usr/share`), that is noted. What a wildcard or a variable stands for is a guess,
and takes only what everybody may read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.readable import open_along

_WORD = re.compile(rb"[\w./+@%*?\[\]~-]{2,250}")
SHARED = re.compile(
    r"(?:bin|boot|dev|etc|home|lib\d*|proc|root|run|sbin|sys|tmp|usr|var)"
    r"(?:/(?:bin|sbin|lib\d*|libexec|share|include|src|cache|log|run|spool|tmp|mail|opt|backups|"
    r"lib/[\w-]+-linux-gnu|share/(?:bug|dict|doc|dpkg|gcc|gdb|info|man|menu|misc|pam|perl5?|vim)|"
    r"local(?:/(?:bin|etc|games|include|lib|libexec|man|sbin|share|src))?|lock))?\Z"
)
"""Folders of the system: named by configuration, they are not meant as content."""
OF_MANY = re.compile(r"(?:srv|opt|mnt|media)\Z")
"""Folders of the administrator's, for many services: of one that is named, what everybody may read
is content."""
PEOPLE = re.compile(r"(?:home/[^/]+|root)\Z")
"""Homes of persons, or of whoever is meant to be one."""
_SERVED = re.compile(
    rb"(?im)(?:^|[;{])[ \t]*(?:root|(?:script)?alias(?:match)?|(?:virtual)?documentroot|"
    rb"(?:server\.)?document[-_]?root|web[-_]?root)\b[^;\n]*"
)
"""Statements of web servers that name a folder as content: nginx, Apache, lighttpd and alike."""
_PLACE = re.compile(rb"(?<![^\s\"'=:])/[^\s\"';]*")
_VARIABLE = re.compile(rb"\$\{\w+\}|\$\w+|%[-+.\w]+")
"""In the name of a folder: of nginx, of the environment, of Apache's mod_vhost_alias."""
_WILD = re.compile(r"[*?\[]")
MOST_TEXT = 4 << 20
SYSTEM = re.compile(
    r"etc/(?:passwd|group|shadow|gshadow|services|protocols|hosts|nsswitch\.conf|ld\.so\..*|"
    r"localtime|host\.conf|gai\.conf|resolv\.conf|mime\.types)-?\Z"
)
"""Tables of the C library: what they name belongs to others."""
NOT_READ = (".so", ".html", ".js", ".css", ".png", ".svg", ".mo", ".pem", ".crt", ".gz")
"""Content and code, not configuration."""
_CONFIGURES = (".conf", ".cnf", ".cfg", ".ini", ".toml", ".yaml", ".yml")


def is_configuration(path: str, head: bytes) -> bool:
    """Whether a kept file is worth reading for further paths."""
    plain = b"\0" not in head and not head.startswith(b"\x7fELF")
    own = path.startswith(("etc/", "usr/local/etc/")) or path.endswith(_CONFIGURES)
    return plain and own and not path.endswith(NOT_READ) and not SYSTEM.match(path)


def keep_named(kept: Kept, paths: list[str], roots: tuple[str, ...] = ()) -> list[str]:
    """What the configuration among `paths` names; the new files. `roots` are further folders
    that relative names may start from."""
    added: list[str] = []
    for path in paths:
        if path not in kept.live:
            continue
        data = kept.tree.read(path, MOST_TEXT)
        if data and is_configuration(path, data[:4096]):
            places = (path.rpartition("/")[0], *roots)
            added += _named(kept, path, data, places)
    return added


def keep_words(kept: Kept, words: tuple[str, ...], folder: str) -> list[str]:
    """Paths among the words of the command itself; the new files."""
    added: list[str] = []
    for word in words:
        for part in re.split(r"[=,\s;:]", word):
            if "/" in part or kept.tree.is_file(f"{folder}/{part}"):
                place = part if part.startswith("/") else f"{folder}/{part}"
                added += keep_path(kept, place, "named by the service's command")
    return added


def _named(kept: Kept, path: str, data: bytes, places: tuple[str, ...]) -> list[str]:
    added: list[str] = []
    text = re.sub(rb"(?m)^\s*[#;].*$", b"", data)
    for match in dict.fromkeys(_WORD.findall(text)):
        word = match.decode("utf-8", "surrogateescape").rstrip(".")
        if word.startswith("/"):
            found = kept.tree.matching(word)
        elif "/" in word or "." in word[1:]:
            found = [name for place in places for name in kept.tree.matching(f"{place}/{word}")]
        else:
            continue
        fitting = partial(open_along, kept.tree) if _WILD.search(word) else None
        for name in found:
            added += keep_path(kept, name, f"named by {path}", fitting)
    for statement in _SERVED.findall(text):
        added += _served(kept, path, statement)
    return added


def _served(kept: Kept, path: str, statement: bytes) -> list[str]:
    """The folder that a statement names as content, its last word, with all that its variables may
    stand for; a folder of the system is passed over, and so are people's homes."""
    places = _PLACE.findall(statement)
    if not places:
        return []
    word = _VARIABLE.sub(b"*", places[-1])
    if b"*" in word.split(b"/")[1]:
        return []  # of the whole tree it may be anything
    added: list[str] = []
    fitting = partial(open_along, kept.tree) if b"*" in word else None
    for name in kept.tree.matching(word.decode("utf-8", "surrogateescape")):
        real = kept.tree.resolve(name)[0]
        personal = fitting is not None and PEOPLE.match(real)
        if kept.tree.is_folder(real) and (not real or SHARED.match(real) or personal):
            kept.passed_over[real] = f"named as content by /{path}"
            continue
        added += keep_path(kept, name, f"named as content by {path}", fitting)
        if fitting is not None and any(
            file not in kept.reasons and not fitting(file) for file in kept.tree.below(real)
        ):
            kept.passed_over[real] = f"which a variable in /{path} may stand for"
    return added


def keep_path(
    kept: Kept, path: str, reason: str, fitting: Callable[[str], bool] | None = None
) -> list[str]:
    """Keep a named file, or a folder that is not one of the system's; where the name is a guess,
    what of it is `fitting`, and no person's home."""
    real = kept.tree.resolve(path)[0]
    if kept.tree.is_folder(real):
        if not real or SHARED.match(real) or (fitting is not None and PEOPLE.match(real)):
            return []
        if OF_MANY.match(real):
            return kept.add_below(path, reason, partial(open_along, kept.tree))
        return kept.add_below(path, reason, fitting)
    if fitting is not None and not fitting(path):
        return []
    kept.live.add(real)
    new = kept.add(path, reason)
    return [new] if new is not None else []
