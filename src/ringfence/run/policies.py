"""Reads the policies of a result: whoever made it may have put there what he liked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from ringfence.errors import InputError
from ringfence.run.unpack import open_inside
from ringfence.untrusted import READ, Undecodable, decode_json, opened_file

MOST = 4 << 20
"""Bytes of one policy."""


class Argument(msgspec.Struct):
    """A condition on one argument of a call (runtime-spec, config-linux.md, seccomp)."""

    index: int
    value: int
    op: str
    valueTwo: int = 0  # noqa: N815 - the specification's name


class Rule(msgspec.Struct):
    """Calls that are treated alike."""

    names: list[str]
    action: str
    args: list[Argument] = []


class Filter(msgspec.Struct):
    """The parts of an OCI seccomp profile that we look at; others are the engine's matter."""

    defaultAction: str  # noqa: N815 - the specification's name
    syscalls: list[Rule]


def read_policy(folder: Path, name: str) -> str:
    """The text of a file below `folder`: no link leads out, and a FIFO holds nobody up. Raises
    InputError."""

    def opening() -> int:
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return open_inside(root, name, READ)
        finally:
            os.close(root)

    path = folder / name
    try:
        return opened_file(opening, path, MOST).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from None


def read_filter(folder: Path, name: str) -> dict[str, Any]:
    """A system call filter, without what is for people: runtimes are strict about unknown names.
    Raises InputError."""
    text = read_policy(folder, name)
    try:
        document: dict[str, Any] = decode_json(text.encode(), dict)
        msgspec.convert(document, Filter)
    except (msgspec.MsgspecError, Undecodable) as error:
        raise InputError(f"is no system call filter: {error}", where=str(folder / name)) from None
    document.pop("comment", None)
    return document
