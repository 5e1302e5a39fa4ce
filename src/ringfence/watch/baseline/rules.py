"""Which files may change how: rules by glob, the last one that matches wins.

Globs (`globs`) are matched against the path from the target's root, with a leading slash. What is
ignored is so with all that is below it, unless a later rule matches there. Imported rules of AIDE
are regular expressions and may name types and attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from ringfence.errors import InputError, UsageError
from ringfence.watch.baseline.entry import DIRECTORY, joined
from ringfence.watch.baseline.globs import check, expression

MOST_FILE = 4 << 20
MOST_SHADOWS = 1024
"""Folders of which it is kept whether they are ignored."""


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
    check(glob, where)
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


_Placed = tuple[int, Rule, re.Pattern[bytes]]
"""A rule with its place, which is its strength, and what it matches."""


class Rules:
    """Compiled rules. `default` is for what none of them matches."""

    def __init__(self, rules: Sequence[Rule], default: Rule = EVERYTHING) -> None:
        self.default = default
        self._none = FolderRules(b"", [], default)
        self._keeping: list[tuple[int, bytes]] = []
        self._below: dict[bytes, list[_Placed]] = {}
        self._ignoring = False
        self._shadows: dict[bytes, _Shadow] = {}
        for place, rule in enumerate(rules):
            pattern = re.compile(_bytes(rule.regex) or expression(rule.glob), re.DOTALL)
            prefix = _bytes(rule.prefix)
            within = prefix.rpartition(b"/")[0].strip(b"/")
            self._below.setdefault(within, []).append((place, rule, pattern))
            if rule.mode is Mode.IGNORED:
                self._ignoring = True
            else:
                self._keeping.append((place, prefix))
        self._longest = max(map(len, self._below), default=0)

    def of_folder(self, folder: bytes) -> FolderRules:
        """The rules that can match something directly in `folder`."""
        if not self._below:
            return self._none
        found = self._near(folder)
        if not self._ignoring:
            return FolderRules(folder, found, self.default)
        place, ignoring = self._shadow(folder)
        if ignoring is None:
            return FolderRules(folder, found, self.default)
        return FolderRules(folder, [row for row in found if row[0] > place], ignoring, place)

    def _near(self, folder: bytes) -> list[_Placed]:
        """The rules whose prefix leads into `folder`, the strongest first."""
        found = list(self._below.get(b"", ()))
        for ancestor in ancestors(folder[: self._longest + 1]):
            found += self._below.get(ancestor, ())
        found.sort(key=lambda row: -row[0])
        return found

    def _shadow(self, folder: bytes) -> _Shadow:
        """The strongest rule that ignores `folder` or a folder above it, with its place.

        It is kept for folders that were asked about lately: a walk asks from above downwards.
        """
        todo = [folder]
        while (found := self._shadows.get(todo[-1])) is None and todo[-1]:
            todo.append(todo[-1].rpartition(b"/")[0])
        if found is not None:
            todo.pop()
        shadow = found or (-1, None)
        for path in reversed(todo):
            shadow = self._deeper(path, shadow)
            if len(self._shadows) >= MOST_SHADOWS:
                self._shadows.clear()
            self._shadows[path] = shadow
        return shadow

    def _deeper(self, path: bytes, above: _Shadow) -> _Shadow:
        """The shadow of the folder `path` in one that has the shadow `above`."""
        for place, rule, pattern in self._near(path.rpartition(b"/")[0]):
            if place <= above[0]:
                break
            if rule.mode is not Mode.IGNORED or (rule.types and DIRECTORY not in rule.types):
                continue
            if pattern.match(b"/" + path):
                return place, rule
        return above

    def entered(self, folder: bytes, names: list[bytes]) -> list[bytes]:
        """Those of the folders `names` in `folder` at or below which something could be kept."""
        rules = self.of_folder(folder)
        if rules.simple is not None and rules.simple.mode is Mode.EXACT:
            return names
        return [name for name in names if self._enters(rules, joined(folder, name), name)]

    def _enters(self, rules: FolderRules, path: bytes, name: bytes) -> bool:
        place, rule = rules.placed(name, DIRECTORY)
        if rule.mode is not Mode.IGNORED and rule.mode is not Mode.UNLISTED:
            return True
        inside = b"/" + path + b"/"
        return any(
            later > place and (inside.startswith(prefix) or prefix.startswith(inside))
            for later, prefix in self._keeping
        )

    def of_path(self, folder: bytes, name: bytes, kind: str) -> Rule:
        """The rule for one file; for many of one folder `of_folder` is quicker."""
        return self.of_folder(folder).of(name, kind)


_Shadow = tuple[int, Rule | None]


class FolderRules:
    """The rules of one folder, the strongest first, and what holds where none of them matches:
    `default`, with its place among all rules."""

    __slots__ = ("_default", "_place", "_prefix", "_rules", "simple")

    def __init__(self, folder: bytes, rules: list[_Placed], default: Rule, place: int = -1) -> None:
        self._prefix = b"/" + folder + b"/" if folder else b"/"
        self._rules = rules
        self._default = default
        self._place = place
        self.simple = default if not rules else None

    def of(self, name: bytes, kind: str) -> Rule:
        """The rule for the file `name` of type `kind` in this folder."""
        return self.placed(name, kind)[1]

    def placed(self, name: bytes, kind: str) -> tuple[int, Rule]:
        """The same with its place among all rules, -1 for none of them."""
        path = self._prefix + name if name else self._prefix
        for place, rule, pattern in self._rules:
            if (not rule.types or kind in rule.types) and pattern.match(path):
                return place, rule
        return self._place, self._default


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


def rule_for(path: bytes, mode: Mode) -> Rule:
    """A rule for the file at `path` (without a leading slash) alone, whatever its bytes are."""
    plain = re.match(rb"[A-Za-z0-9_/-]*", path)
    text = "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}" for byte in path
    )
    prefix = plain[0].decode() if plain else ""
    return Rule(mode, regex=rf"/{text}\Z", prefix=f"/{prefix}")
