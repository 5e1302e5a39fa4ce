"""An aide.conf as rules: what AIDE keeps and with which attributes, in this order of strength.

AIDE looks for the deepest folder that begins a rule and takes the first rule there; rules with
`!` win over all others (aide.conf(5), RULES). Here the last rule that matches wins, so they
are sorted the other way round.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from ringfence.errors import InputError
from ringfence.watch.baseline.aide.attributes import GROUPS, HASHES, IGNORED, NAMES, ours
from ringfence.watch.baseline.aide.lines import Lines
from ringfence.watch.baseline.rules import Mode, Rule

_GROUP = re.compile(r"([A-Za-z][A-Za-z0-9]*)\s*=\s*([^=]*)")
_OPTIONS = frozenset({"database", "verbose", "grouped"})
"""Options whose names could be those of a group; all others have an underscore."""
_QUOTED = re.compile(r"\\Q(.*?)(?:\\E|\Z)|\\.", re.DOTALL)
_TYPES = re.compile(r"[fdlcbpsDP](,[fdlcbpsDP])*|0")
_CLASSES = {"digit": "0-9", "xdigit": "0-9A-Fa-f", "alpha": "A-Za-z", "alnum": "A-Za-z0-9",
            "upper": "A-Z", "lower": "a-z", "space": r"\s", "word": r"\w",
            "punct": r"!-/:-@\[-`{-~"}  # fmt: skip


class Configuration(msgspec.Struct, frozen=True):
    """Rules from the weakest to the strongest, attributes beyond the usual ones that they name,
    and what was not taken over."""

    rules: tuple[Rule, ...]
    attributes: tuple[str, ...]
    notes: tuple[str, ...]


def read_configuration(path: Path) -> Configuration:
    """The rules of an aide.conf. Raises InputError with file and line."""
    reader, lines = _Reader(), Lines()
    for where, line in lines.of(path):
        reader.line(line, where)
    regular, negative = reader.regular, reader.negative
    regular.sort(key=lambda row: (row[0], row[1], -row[2]))
    rules = (*(row[3] for row in regular), *negative)
    named = {name for rule in rules for name in rule.attributes or ()}
    notes = []
    if reader.dropped:
        notes.append(f"AIDE attributes not looked at here: {', '.join(sorted(reader.dropped))}")
    if lines.left_out:
        left = len(lines.left_out)
        notes.append(f"{left} executable part(s) of {path} not run: their rules are left out")
    chosen = tuple(name for name in ("mtime", "ctime", "inode") if name in named)
    return Configuration(rules, chosen, tuple(notes))


class _Reader:
    """Takes line after line. Regular rules stand with depth, strength and place."""

    def __init__(self) -> None:
        self.groups: dict[str, frozenset[str]] = {}
        for name, text in GROUPS.items():
            self.groups[name] = self._expression(text, name)
        self.dropped: set[str] = set()
        self.regular: list[tuple[int, bool, int, Rule]] = []
        self.negative: list[Rule] = []

    def line(self, line: str, where: str) -> None:
        if line[0] in "/!=":
            self._rule(line, where)
            return
        key = line.partition("=")[0].strip()
        if "=" not in line or key in _OPTIONS or "_" in key:
            if "=" not in line:
                raise InputError(f"a line makes no sense: {line[:80]}", where=where)
            return
        match = _GROUP.fullmatch(line)
        if match is None:
            raise InputError(f"a group makes no sense: {line[:80]}", where=where)
        self.groups[match[1]] = self._expression(match[2], where)

    def _expression(self, text: str, where: str) -> frozenset[str]:
        found: set[str] = set()
        for sign, word in re.findall(r"([+-]?)\s*([^+\-\s]+)", text):
            if word in self.groups:
                words = self.groups[word]
            elif word in NAMES or word in HASHES or word in IGNORED:
                words = frozenset({word})
            else:
                raise InputError(f"no attribute or group {word!r}", where=where)
            found = found - words if sign == "-" else found | words
        return frozenset(found)

    def _rule(self, line: str, where: str) -> None:
        sign = line[0] if line[0] in "!=" else ""
        parts = re.split(r"(?<!\\)\s+", line[len(sign) :].strip(), maxsplit=1)
        regex, rest = _regex(parts[0], where), parts[1] if len(parts) > 1 else ""
        types = ""
        match = _TYPES.match(rest)
        if (
            match
            and (match.end() == len(rest) or rest[match.end()].isspace())
            and not (match.end() == len(rest) and sign != "!")
        ):
            types, rest = match[0].replace(",", "").replace("0", ""), rest[match.end() :]
        prefix = _literal(regex)
        if sign == "!":
            if rest.strip():
                raise InputError(f"more after a negative rule: {rest.strip()[:40]}", where=where)
            self.negative.append(Rule(Mode.IGNORED, regex=regex, types=types, prefix=prefix))
            return
        words = self._expression(rest, where)
        self.dropped |= words & IGNORED
        mode, attributes = ours(words)
        if sign == "=":
            regex = rf"(?:{regex})[^/]*\Z"
        rule = Rule(mode, regex=regex, types=types, attributes=attributes, prefix=prefix)
        self.regular.append((prefix.count("/"), sign == "=", len(self.regular), rule))


def _regex(text: str, where: str) -> str:
    """AIDE's pattern as Python's: its escapes undone, POSIX classes spelt out."""
    pattern = re.sub(r"\\([ @\\])", r"\1", text)
    pattern = _QUOTED.sub(_unquoted, pattern)
    pattern = re.sub(r"\[:(\w+):\]", lambda found: _CLASSES.get(found[1], found[0]), pattern)
    pattern = re.sub("[\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", pattern)
    try:
        re.compile(pattern.encode())
    except re.error as error:
        raise InputError(f"a regular expression makes no sense: {error}", where=where) from None
    return pattern


def _unquoted(found: re.Match[str]) -> str:
    """What PCRE2's `\\Q...\\E` stands for, unknown to Python; other escapes as they are."""
    if found[1] is not None:
        return re.escape(found[1])
    return "" if found[0] == r"\E" else found[0]


def _literal(regex: str) -> str:
    """What every match begins with."""
    out, place = "", 0
    while place < len(regex):
        char = regex[place]
        if char == "\\" and regex[place + 1 : place + 2] and not regex[place + 1].isalnum():
            char, place = regex[place + 1], place + 1
        elif char in r"\.[^$*?+{(|":
            break
        out, place = out + char, place + 1
    if regex[place : place + 1] in ("*", "?", "{"):
        out = out[:-1]
    return "/" if "|" in regex and "(" not in regex.partition("|")[0] else out
