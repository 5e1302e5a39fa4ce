"""Which files may change how: rules by glob, the last one that matches wins.

Globs are matched against the path from the target's root, with a leading slash: `*` and `?` stay
within a name, `**` crosses slashes, `[a-z]` as in glob(7). One without a leading slash matches at
any depth. Imported rules of AIDE are regular expressions and may name types and attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from ringfence.errors import InputError, UsageError

MOST_FILE = 4 << 20


class Mode(StrEnum):
    """How a file may change."""

    EXACT = "exact"
    GROWS = "grows"
    METADATA = "metadata-only"
    IGNORED = "ignored"
    UNLISTED = "unlisted"  # only in what is imported: not kept, but what is below it may be


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """`mode` for what `glob` (or `regex`, from the first byte) matches.

    `types` limits it to these letters of `find -type`; `attributes`, where not None, are the ones
    to compare. All matches begin with `prefix`, which is for quick look-up.
    """

    mode: Mode
    glob: str = ""
    regex: str = ""
    types: str = ""
    attributes: tuple[str, ...] | None = None
    prefix: str = "/"


EVERYTHING = Rule(Mode.EXACT)
NOTHING = Rule(Mode.UNLISTED)


def rule_of(glob: str, mode: str, where: str) -> Rule:
    """A rule that a person wrote. Raises UsageError when the mode or the glob makes no sense."""
    known = [item.value for item in Mode if item is not Mode.UNLISTED]
    if mode not in known:
        raise UsageError(f"{mode!r} is no mode", where=where, remedy=f"use {', '.join(known)}")
    if not glob:
        raise UsageError("an empty glob", where=where, remedy="as in --rule '/var/log/**=grows'")
    try:
        glob.encode()
        re.compile(_translated(glob))
    except UnicodeEncodeError:
        raise UsageError("a glob that is not UTF-8", where=where) from None
    except re.error as error:
        raise UsageError(f"{glob!r} is no glob: {error}", where=where) from None
    return Rule(Mode(mode), glob=glob, prefix=_prefix_of(glob))


def parse_rule(text: str) -> Rule:
    """`GLOB=MODE` of the command line."""
    glob, equals, mode = text.rpartition("=")
    if not equals:
        raise UsageError(f"{text!r} is no rule", remedy="as in --rule '/var/log/**=grows'")
    return rule_of(glob, mode, f"--rule {text}")


def read_rules(path: Path) -> list[Rule]:
    """The rules of a TOML file: tables `[[rule]]` with `glob` and `mode`. Raises InputError."""
    from ringfence.untrusted import read_toml

    document = read_toml(path, MOST_FILE, "see docs/watch.md")
    rows = document.get("rule")
    if not isinstance(rows, list) or set(document) != {"rule"}:
        raise InputError("has no tables [[rule]] alone", where=str(path), remedy="docs/watch.md")
    return [_row(row, f"{path}, rule {number}") for number, row in enumerate(rows, 1)]


def _row(row: object, where: str) -> Rule:
    if not isinstance(row, dict) or set(row) != {"glob", "mode"}:
        raise InputError("needs `glob` and `mode`, and nothing else", where=where)
    return rule_of(str(row["glob"]), str(row["mode"]), where)


class Rules:
    """Compiled rules. `default` is for what none of them matches."""

    def __init__(self, rules: Sequence[Rule], default: Rule = EVERYTHING) -> None:
        self.default = default
        self._none = FolderRules(b"", [], default)
        self._prefixes: list[bytes] = []
        self._below: dict[bytes, list[tuple[int, Rule, re.Pattern[bytes]]]] = {}
        for place, rule in enumerate(rules):
            pattern = re.compile(_bytes(rule.regex or _translated(rule.glob)), re.DOTALL)
            prefix = _bytes(rule.prefix)
            within = prefix.rpartition(b"/")[0].strip(b"/")
            self._below.setdefault(within, []).append((place, rule, pattern))
            if rule.mode is not Mode.IGNORED:
                self._prefixes.append(prefix)

    def of_folder(self, folder: bytes) -> FolderRules:
        """The rules that can match something directly in `folder`."""
        if not self._below:
            return self._none
        found = list(self._below.get(b"", ()))
        for ancestor in ancestors(folder):
            found += self._below.get(ancestor, ())
        found.sort(key=lambda row: -row[0])
        return FolderRules(folder, [(rule, pattern) for _, rule, pattern in found], self.default)

    def leads(self, folder: bytes) -> bool:
        """Whether something at or below `folder` could be kept by a rule."""
        path = b"/" + folder + b"/"
        return any(path.startswith(item) or item.startswith(path) for item in self._prefixes)

    def of_path(self, folder: bytes, name: bytes, kind: str) -> Rule:
        """The rule for one file; for many of one folder `of_folder` is quicker."""
        return self.of_folder(folder).of(name, kind)


class FolderRules:
    """The rules of one folder, the strongest first."""

    __slots__ = ("_default", "_prefix", "_rules", "simple")

    def __init__(
        self, folder: bytes, rules: list[tuple[Rule, re.Pattern[bytes]]], default: Rule
    ) -> None:
        self._prefix = b"/" + folder + b"/" if folder else b"/"
        self._rules = rules
        self._default = default
        self.simple = default if not rules else None

    def of(self, name: bytes, kind: str) -> Rule:
        """The rule for the file `name` of type `kind` in this folder."""
        path = self._prefix + name if name else self._prefix
        for rule, pattern in self._rules:
            if (not rule.types or kind in rule.types) and pattern.match(path):
                return rule
        return self._default


def ancestors(folder: bytes) -> Iterable[bytes]:
    """The folders that lead to `folder` and itself, the outermost first, without the root."""
    place = 0
    while folder:
        place = folder.find(b"/", place) + 1
        if place == 0:
            yield folder
            return
        yield folder[: place - 1]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _prefix_of(glob: str) -> str:
    return re.split(r"[*?\[\\]", glob, maxsplit=1)[0] if glob.startswith("/") else "/"


def _translated(glob: str) -> str:
    """The regular expression of a glob, anchored at both ends."""
    out = "" if glob.startswith("/") else r"(?:/|/.*/)"
    place = 0
    while place < len(glob):
        char = glob[place]
        if glob.startswith("**/", place):
            out, place = out + r"(?:[^/]+/)*", place + 3
        elif glob.startswith("**", place):
            out, place = out + ".*", place + 2
        elif char == "[" and (end := glob.find("]", place + 2)) > 0:
            inner = glob[place + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            inner = "^/" + inner[1:] if inner[0] in "!^" else inner
            out, place = f"{out}[{inner}]", end + 1
        elif char == "\\" and place + 1 < len(glob):
            out, place = out + re.escape(glob[place + 1]), place + 2
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char))
            place += 1
    return out + r"\Z"


def rule_for(path: bytes, mode: Mode) -> Rule:
    """A rule for the file at `path` (without a leading slash) alone, whatever its bytes are."""
    plain = re.match(rb"[A-Za-z0-9_/-]*", path)
    text = "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}" for byte in path
    )
    prefix = plain[0].decode() if plain else ""
    return Rule(mode, regex=rf"/{text}\Z", prefix=f"/{prefix}")
