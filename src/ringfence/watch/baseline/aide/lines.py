"""The lines of an aide.conf once its macros are worked out: @@define, @@if, @@include, @@{VAR}.

aide.conf(5). Executable parts of @@x_include are named and not run: what a configuration may
start with root's rights is not for an importer to decide.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from ringfence.errors import InputError

MOST_FILE = 4 << 20
MOST_DEPTH = 16
_VARIABLE = re.compile(r"@@\{([A-Za-z0-9_]+)\}")
_OLD = {"ifdef": "defined", "ifndef": "not defined", "ifhost": "hostname",
        "ifnhost": "not hostname"}  # fmt: skip


class Lines:
    """Works out the macros. `left_out` are executable files that were not run."""

    def __init__(self) -> None:
        self.left_out: list[str] = []
        self._variables = {"HOSTNAME": socket.gethostname().partition(".")[0]}

    def of(self, path: Path, depth: int = 0) -> Iterator[tuple[str, str]]:
        """(where, line) for every line that counts. Raises InputError."""
        if depth > MOST_DEPTH:
            raise InputError("includes are nested too deep", where=str(path))
        open_ifs: list[bool] = []
        for number, raw in enumerate(_text(path).splitlines(), 1):
            where, line = f"{path}:{number}", raw.strip()
            if not line or line.startswith("#"):
                continue
            word, _, rest = line.removeprefix("@@").partition(" ")
            if line.startswith("@@") and self._conditional(word, rest, open_ifs, where):
                continue
            if not all(open_ifs):
                continue
            line = _VARIABLE.sub(lambda found: self._variables.get(found[1], ""), line)
            if not line.startswith("@@"):
                yield where, line
                continue
            yield from self._macro(line, where, depth)
        if open_ifs:
            raise InputError("an @@if has no @@endif", where=str(path))

    def _conditional(self, word: str, rest: str, open_ifs: list[bool], where: str) -> bool:
        """Take an @@if, @@else or @@endif; whether it was one."""
        if word in _OLD:
            word, rest = "if", f"{_OLD[word]} {rest}"
        if word == "if":
            open_ifs.append(self._true(rest.split(), where))
        elif word in ("else", "endif"):
            if not open_ifs:
                raise InputError(f"@@{word} without @@if", where=where)
            found = open_ifs.pop()
            if word == "else":
                open_ifs.append(not found)
        else:
            return False
        return True

    def _true(self, words: list[str], where: str) -> bool:
        if words[:1] == ["not"]:
            return not self._true(words[1:], where)
        match words:
            case ["defined", name]:
                return name in self._variables
            case ["hostname", name]:
                return name == self._variables["HOSTNAME"]
            case ["exists", name]:
                return os.path.exists(name)
        raise InputError(f"a condition makes no sense: {' '.join(words)}", where=where)

    def _macro(self, line: str, where: str, depth: int) -> Iterator[tuple[str, str]]:
        words = line.removeprefix("@@").split()
        match words:
            case ["define", name, *value]:
                self._variables[name] = " ".join(value)
            case ["undef", name]:
                self._variables.pop(name, None)
            case ["x_include_setenv", *_]:
                return
            case [("include" | "x_include") as kind, place, *more] if len(more) <= 2:
                for path in _files(Path(place), more, where):
                    if kind == "x_include" and os.access(path, os.X_OK) and _executable(path):
                        self.left_out.append(str(path))
                    else:
                        yield from self._prefixed(path, more, depth)
            case _:
                raise InputError(f"a macro that is not known: {line}", where=where)

    def _prefixed(self, path: Path, more: list[str], depth: int) -> Iterator[tuple[str, str]]:
        prefix = more[1] if len(more) == 2 else ""
        for where, line in self.of(path, depth + 1):
            sign = line[0] if line[0] in "!=" else ""
            rule = bool(prefix) and line[len(sign) :].startswith("/")
            yield where, f"{sign}{prefix}{line[len(sign) :]}" if rule else line


def _files(place: Path, more: list[str], where: str) -> list[Path]:
    if not more:
        return [place]
    try:
        pattern = re.compile(more[0])
        names = sorted(name for name in os.listdir(place) if pattern.search(name))
    except (OSError, re.error) as error:
        raise InputError(f"{place} cannot be included: {error}", where=where) from None
    return [place / name for name in names if (place / name).is_file()]


def _executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o111)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_FILE + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if len(data) > MOST_FILE:
        raise InputError("is larger than 4 MiB", where=str(path))
    return data.decode("utf-8", "surrogateescape")
