"""What guest images are recognised by: guests.toml as records, checked at load."""

from __future__ import annotations

import functools
import re
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

import msgspec

from ringfence.errors import KnowledgeError
from ringfence.knowledge.loader import parse_need
from ringfence.model.need import All, Need, State, leaves

FILE = "guests.toml"
MARKS = frozenset(
    "format section note guest-os interpreter osabi symbol string version magic filesystem".split()
)
"""Kinds of marks that a formula may ask for."""


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every entry has."""

    id: str
    title: str = ""
    sources: tuple[str, ...] = ()


class Version(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a version stands: a literal `string`, and the `pattern` around it.

    The pattern begins with the string and has the group `version`.
    """

    string: str
    pattern: str


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deployment of the knowledge base, taken when the image shows `when`.

    `note` is added to the report; `notes` false leaves out those of the deployment, where they
    speak of a service that was measured elsewhere.
    """

    template: str
    when: Need = All(())
    note: str = ""
    notes: bool = True


class System(_Row, frozen=True, kw_only=True):
    """A system that images are built with.

    `application` says where the application is: `inside` (one program with the kernel), `beside`
    (a program of its own in the kernel's ring and memory), `apart` (ring 3, its own memory) or
    `unknown`. In the deployments of `enforced`, a loader gives memory the rights of the ELF
    segments and no others.
    """

    signs: Need
    application: str
    deployments: tuple[Choice, ...]
    versions: tuple[Version, ...] = ()
    enforced: tuple[str, ...] = ()
    note: str = ""


class Sign(_Row, frozen=True, kw_only=True):
    """A boot protocol; `note` is added to the report."""

    signs: Need
    note: str = ""


class Language(Sign, frozen=True, kw_only=True):
    """A programming language; `safe` from memory errors."""

    safe: bool


class Protection(Sign, frozen=True, kw_only=True):
    """A protection that the compiler adds, and the condition that it closes."""

    condition: str


class Named(_Row, frozen=True, kw_only=True):
    """Something that a string names: a component with its version, or the application."""

    versions: tuple[Version, ...]


class Word(_Row, frozen=True, kw_only=True):
    """A word of a Linux command line: its whole text as a pattern, and what it decides."""

    pattern: str
    condition: str
    state: State


class FileSystem(_Row, frozen=True, kw_only=True):
    """A file system: `magic` (hexadecimal) at `offset` bytes from its start."""

    offset: int
    magic: str


class PartitionType(_Row, frozen=True, kw_only=True):
    """A partition type: `id` is two hexadecimal digits (MBR) or a GUID (GPT)."""


class Guests(msgspec.Struct, frozen=True):
    """The whole file, in its order."""

    system: tuple[System, ...]
    unknown: System
    protocol: tuple[Sign, ...]
    language: tuple[Language, ...]
    component: tuple[Named, ...]
    application: tuple[Named, ...]
    protection: tuple[Protection, ...]
    word: tuple[Word, ...]
    filesystem: tuple[FileSystem, ...]
    partition: tuple[PartitionType, ...]

    def formulas(self) -> tuple[Need, ...]:
        """Every formula of the file."""
        signs = [system.signs for system in self.system]
        signs += [choice.when for system in self.system for choice in system.deployments]
        for signed in (self.protocol, self.language, self.protection):
            signs += [entry.signs for entry in signed]
        return tuple(signs)

    def named(self) -> tuple[System | Named, ...]:
        """Every entry that has versions."""
        return (*self.system, *self.component, *self.application)

    def asked(self, kind: str) -> tuple[str, ...]:
        """The subjects of all marks of one kind that some formula asks for, once, in order."""
        found = {
            leaf.partition(":")[2]: None
            for need in self.formulas()
            for leaf in leaves(need)
            if leaf.startswith(f"{kind}:")
        }
        return tuple(found)


@functools.cache
def load_guests() -> Guests:
    """The file that is shipped with the package, checked. Raises KnowledgeError."""
    return read_guests(resources.files("ringfence.knowledge").joinpath(FILE))


def read_guests(file: Traversable) -> Guests:
    """The entries of `file`, checked. Raises KnowledgeError that names the entry."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KnowledgeError(f"cannot be read: {error}", where=FILE) from None
    try:
        guests = msgspec.convert(_needs(document), Guests)
    except msgspec.ValidationError as error:
        raise KnowledgeError(str(error), where=FILE) from None
    for name in Guests.__struct_fields__:
        rows = getattr(guests, name)
        _check_rows(name, rows if isinstance(rows, tuple) else (rows,))
    for need in guests.formulas():
        for leaf in leaves(need):
            if leaf.partition(":")[0] not in MARKS:
                raise KnowledgeError(f"there is no mark {leaf!r}", where=FILE)
    return guests


def _needs(value: Any) -> Any:
    """The document with every formula in the form that its record decodes."""
    if isinstance(value, list):
        return [_needs(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: msgspec.to_builtins(parse_need(item, FILE))
        if key in ("signs", "when")
        else _needs(item)
        for key, item in value.items()
    }


R = TypeVar("R", bound=_Row)


def _check_rows(table: str, rows: tuple[R, ...]) -> None:
    seen: set[str] = set()
    for row in rows:
        where = f"{FILE}: {table} {row.id}"
        if row.id in seen or not row.title or not row.sources:
            raise KnowledgeError("an entry needs an id of its own, title and sources", where=where)
        seen.add(row.id)
        for version in getattr(row, "versions", ()):
            _check_pattern(version.pattern, where, "version")
        if isinstance(row, Word):
            _check_pattern(row.pattern, where)
        if isinstance(row, FileSystem) and not _is_hexadecimal(row.magic):
            raise KnowledgeError(f"magic {row.magic!r} is not hexadecimal", where=where)
        if isinstance(row, System) and [item.when for item in row.deployments][-1:] != [All(())]:
            raise KnowledgeError("the last deployment must need nothing", where=where)


def _check_pattern(pattern: str, where: str, group: str = "") -> None:
    try:
        compiled = re.compile(pattern.encode("latin-1"))
    except (re.error, UnicodeEncodeError) as error:
        raise KnowledgeError(f"pattern {pattern!r}: {error}", where=where) from None
    if group and group not in compiled.groupindex:
        raise KnowledgeError(f"pattern {pattern!r} lacks the group {group}", where=where)


def _is_hexadecimal(text: str) -> bool:
    return re.fullmatch(r"([0-9a-f]{2})+", text) is not None
