"""Files, JSON and TOML that other people wrote: read with bounds, and every way to fail is one.

The parsers raise more than their own errors (UnicodeDecodeError, RecursionError, a plain
ValueError for a number of 5,000 digits), and a FIFO in place of a file would hold a command up.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from ringfence.errors import InputError

T = TypeVar("T")

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC

MOST_TOML = 1 << 20
MOST_DOTS = 64
"""Dots in one line outside its strings: tomllib's work grows with the square of a key's parts."""
MOST_DEPTH = 64
LONGEST_SHOWN = 80
_STRING = re.compile(r"""'[^']*'?|"(?:[^"\\]|\\.?)*+"?""")


class Undecodable(ValueError):
    """Bytes are not the JSON or TOML that they should be. Its text is the reason, in a line."""


def check_path(text: str) -> None:
    """A path that may name nothing, but must be one that can be asked for.

    Raises InputError for one that is too long, loops or may not be seen.
    """
    try:
        os.stat(text)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        # A bare word is no file where this folder may not be looked into: a container's name.
        if error.errno == errno.EACCES and "/" not in text:
            return
        what = os.strerror(error.errno or 0).lower()
        raise InputError(f"cannot be read: {what}", where=text[:LONGEST_SHOWN]) from None


def regular_file(path: Path, most: int, remedy: str = "") -> bytes:
    """The bytes of a regular file, `most` of them at most; a FIFO or device is refused.

    Raises InputError, with `remedy` as what to do.
    """
    return opened_file(lambda: os.open(path, READ), path, most, remedy)


def opened_file(opening: Callable[[], int], path: Path, most: int, remedy: str = "") -> bytes:
    """The same of the descriptor that `opening` gives: it opens `path` with the flags READ."""
    try:
        handle = opening()
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InputError("not a regular file", where=str(path), remedy=remedy)
            data = file.read(most + 1)
    except OSError as error:
        what = f"cannot be read: {os.strerror(error.errno or 0).lower()}"
        raise InputError(what, where=str(path), remedy=remedy) from None
    if len(data) > most:
        size = f"{most >> 20} MiB" if most >> 20 else f"{most} bytes"
        raise InputError(f"is larger than {size}", where=str(path), remedy=remedy)
    return data


@overload
def decode_json(data: bytes) -> Any: ...
@overload
def decode_json(data: bytes, kind: type[T]) -> T: ...
def decode_json(data: bytes, kind: Any = Any) -> Any:
    """The value of a JSON text, of the type `kind`. Raises Undecodable."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise Undecodable("it is nested too deep") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise Undecodable(str(error)) from None


def decode_toml(data: bytes) -> dict[str, Any]:
    """The table of a TOML text. Raises Undecodable."""
    import tomllib  # takes longer to load than most commands that need none may take

    try:
        text = data.decode()
        _check_dots(text)
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, Undecodable) as error:
        raise Undecodable(str(error)) from None
    except ValueError:
        raise Undecodable("a number has too many digits") from None
    except RecursionError:
        raise Undecodable("it is nested too deep") from None
    _check_values(document)
    return document


def read_toml(path: Path, most: int = MOST_TOML, remedy: str = "") -> dict[str, Any]:
    """The table of a TOML file. Raises InputError, with `remedy` as what to do."""
    try:
        return decode_toml(regular_file(path, most, remedy))
    except Undecodable as error:
        raise InputError(
            f"cannot be read as TOML: {error}", where=str(path), remedy=remedy
        ) from None


def _check_dots(text: str) -> None:
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") <= MOST_DOTS:
            continue
        # Where a string of several lines begins or ends, what is inside it cannot be told by line.
        several = '"""' in line or "'''" in line
        if several or _STRING.sub("", line).count(".") > MOST_DOTS:
            raise Undecodable(f"line {number} has more than {MOST_DOTS} dots")


def _check_values(document: dict[str, Any]) -> None:
    """What reads the table afterwards calls itself for each level, and prints its numbers."""
    level: list[object] = [document]
    for _ in range(MOST_DEPTH):
        level = [part for item in level for part in _parts(item)]
        if not level:
            return
        if any(isinstance(item, int) and item.bit_length() > 64 for item in level):
            raise Undecodable("a number has too many digits")
    raise Undecodable(f"it is nested more than {MOST_DEPTH} deep")


def _parts(item: object) -> list[object]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []
