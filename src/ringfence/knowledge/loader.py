"""Reads the whole knowledge base and checks it; a broken entry is named by file and id."""

from __future__ import annotations

import functools
import re
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ringfence.errors import KnowledgeError
from ringfence.knowledge.records import (
    Device,
    Entry,
    Family,
    Feature,
    Formula,
    HostMount,
    Knowledge,
    Mechanism,
    PathEntry,
    Scale,
    Sophistication,
    Start,
    Template,
    VectorEntry,
)
from ringfence.knowledge.vocabulary import OF_THE_KERNEL, check_condition
from ringfence.model.need import All, Leaf, Need, leaves
from ringfence.model.need import Any as AnyOf
from ringfence.untrusted import read_toml

E = TypeVar("E", bound=Entry)

TABLES: dict[str, type[Entry]] = {
    "mechanism": Mechanism,
    "family": Family,
    "vector": VectorEntry,
    "formula": Formula,
    "feature": Feature,
    "path": PathEntry,
    "mount": HostMount,
    "device": Device,
    "scale": Scale,
    "start": Start,
    "sophistication": Sophistication,
}
"""TOML table name -> record. A file of `deployments/` is one Template instead."""

_PREFIX: dict[type[Entry], str] = {
    Feature: "feature:",
    PathEntry: "path:",
    HostMount: "mount:",
    Device: "device:",
}

FOLDERS = ("mechanisms", "families", "vectors", "deployments")
SINGLE = ("conditions", "features", "paths", "mounts", "devices", "scales", "attackers")
MOST_WORTH = 1_000_000
"""Of a user's scale: infinity, and what sums could not hold, are none."""
_ID = re.compile(r"[a-z0-9][a-z0-9.-]*")
_REFERENCE = {
    "attack": re.compile(r"T\d{4}(\.\d{3})?"),
    "cwe": re.compile(r"CWE-\d+"),
    "cve": re.compile(r"CVE-\d{4}-\d{4,}"),
}


@functools.cache
def load() -> Knowledge:
    """The knowledge base that is shipped with the package, checked.

    Raises KnowledgeError that names file and entry.
    """
    return load_from(resources.files("ringfence.knowledge"))


def load_from(root: Traversable) -> Knowledge:
    """The knowledge base under `root`, a folder laid out like this package."""
    base = _Base()
    for name in SINGLE:
        base.read(root.joinpath(f"{name}.toml"))
    for folder in FOLDERS:
        files = sorted(root.joinpath(folder).iterdir(), key=lambda file: file.name)
        for file in files:
            if file.name.endswith(".toml"):
                base.read(file, folder)
    knowledge = base.finish()
    _check_references(knowledge)
    return knowledge


def load_scale(path: Path) -> Scale:
    """A user's own scale: a TOML file with the fields of an entry of scales.toml.

    Raises InputError for what is no TOML, KnowledgeError for what is no scale.
    """
    remedy = "write the fields of a [[scale]] entry: ringfence explain classic"
    document = read_toml(path, remedy=remedy)
    document.setdefault("sources", [str(path)])
    document.setdefault("title", document.get("id", ""))
    scale = _decode(document, Scale, path.name)
    values = (scale.data, scale.user, scale.admin_alone, scale.admin)
    growing = 0 < values[0] <= values[1] <= values[2] <= values[3] <= MOST_WORTH
    if not growing or not 1 <= scale.discount <= MOST_WORTH:
        raise KnowledgeError(
            "worths must be positive and grow from data to user to admin_alone to admin, "
            f"the discount be at least 1, and none be more than {MOST_WORTH:,}",
            where=f"{path.name}: {scale.id}",
            remedy="compare it with ringfence explain classic",
        )
    return scale


class _Base:
    """Entries as they are read, and where each came from."""

    def __init__(self) -> None:
        self.entries: dict[type[Entry], dict[str, Entry]] = {}
        self.where: dict[str, str] = {}

    def read(self, file: Traversable, folder: str = "") -> None:
        name = f"{folder}/{file.name}" if folder else file.name
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise KnowledgeError(f"cannot be read: {error}", where=name) from None
        if folder == "deployments":
            self.add(_decode(document, Template, name), name)
            return
        for table, rows in document.items():
            kind = TABLES.get(table)
            if kind is None or not isinstance(rows, list):
                known = ", ".join(f"[[{word}]]" for word in TABLES)
                raise KnowledgeError(
                    f"unknown table {table!r}", where=name, remedy=f"use one of {known}"
                )
            for row in rows:
                self.add(_decode(row, kind, name), name)

    def add(self, entry: Entry, name: str) -> None:
        # What a report prints by its bare id shares one space of names; the others are
        # always named with their kind (`feature:bpf` beside the family `bpf`).
        prefix = _PREFIX.get(type(entry), "")
        key = f"{prefix}{entry.id}"
        if key in self.where:
            raise KnowledgeError(
                f"the id is already used in {self.where[key]}", where=f"{name}: {entry.id}"
            )
        self.where[key] = name
        self.entries.setdefault(type(entry), {})[entry.id] = entry

    def of(self, kind: type[E]) -> dict[str, E]:
        return {
            key: entry
            for key, entry in self.entries.get(kind, {}).items()
            if isinstance(entry, kind)
        }

    def finish(self) -> Knowledge:
        formulas = self.of(Formula)
        return Knowledge(
            mechanisms=self.of(Mechanism),
            families={key: _expanded(entry, formulas) for key, entry in self.of(Family).items()},
            vectors={
                key: _expanded(entry, formulas) for key, entry in self.of(VectorEntry).items()
            },
            formulas=formulas,
            features=self.of(Feature),
            paths=self.of(PathEntry),
            mounts=self.of(HostMount),
            devices=self.of(Device),
            scales=self.of(Scale),
            starts=self.of(Start),
            sophistications=self.of(Sophistication),
            templates=self.of(Template),
            where=self.where,
        )


def _decode(row: Any, kind: type[E], name: str) -> E:
    label = f"{name}: {row.get('id', '(no id)')}" if isinstance(row, dict) else name
    if not isinstance(row, dict):
        raise KnowledgeError("an entry must be a table", where=label)
    if "needs" in row:
        row = {**row, "needs": msgspec.to_builtins(parse_need(row["needs"], label))}
    try:
        entry = msgspec.convert(row, kind)
    except msgspec.ValidationError as error:
        raise KnowledgeError(str(error), where=label) from None
    if not _ID.fullmatch(entry.id):
        raise KnowledgeError("an id has only a-z, 0-9, '-' and '.'", where=label)
    if not entry.sources:
        raise KnowledgeError("an entry must cite a source", where=label)
    for field, form in _REFERENCE.items():
        for reference in getattr(entry, field, ()):
            if not form.fullmatch(reference):
                raise KnowledgeError(f"{reference!r} is no {field} id", where=label)
    return entry


def parse_need(raw: object, where: str) -> Need:
    """A need from its TOML form: a condition, a list (all), or {any = [...]} / {all = [...]}."""
    if isinstance(raw, str):
        return Leaf(raw)
    if isinstance(raw, list):
        return All(tuple(parse_need(part, where) for part in raw))
    if isinstance(raw, dict) and len(raw) == 1:
        word, parts = next(iter(raw.items()))
        if word in ("all", "any") and isinstance(parts, list) and (parts or word == "all"):
            made = tuple(parse_need(part, where) for part in parts)
            return All(made) if word == "all" else AnyOf(made)
    raise KnowledgeError(f"needs cannot hold {raw!r}", where=where, remedy="see docs/knowledge.md")


O = TypeVar("O", Family, VectorEntry)  # noqa: E741 - one letter is the custom for type variables


def _expanded(entry: O, formulas: dict[str, Formula]) -> O:
    """`entry` with each bare formula id in its needs replaced by that formula."""
    return msgspec.structs.replace(entry, needs=expanded_need(entry.needs, formulas, entry.id))


def expanded_need(need: Need, formulas: dict[str, Formula], where: str) -> Need:
    """`need` with each bare formula id replaced by that formula. Raises KnowledgeError, which
    names `where`, for an id that there is not."""

    def expand(need: Need, inside: tuple[str, ...] = ()) -> Need:
        if isinstance(need, Leaf):
            if ":" in need.condition:
                return need
            formula = formulas.get(need.condition)
            if formula is None or need.condition in inside:
                raise KnowledgeError(f"no formula {need.condition!r}", where=where)
            return expand(formula.needs, (*inside, need.condition))
        parts = tuple(expand(part, inside) for part in need.parts)
        return All(parts) if isinstance(need, All) else AnyOf(parts)

    return expand(need)


def _check_references(knowledge: Knowledge) -> None:
    """Every condition that an entry names must be in the vocabulary."""
    for mechanism in knowledge.mechanisms.values():
        _check_mechanism(mechanism, knowledge)
    for opening in (*knowledge.families.values(), *knowledge.vectors.values()):
        _check_conditions(opening.id, tuple(leaves(opening.needs)), knowledge)
    for formula in knowledge.formulas.values():
        _check_conditions(formula.id, tuple(leaves(formula.needs)), knowledge)
    for template in knowledge.templates.values():
        for part in (template.conditions, template.admin):
            patterns = (*part.open, *part.closed, *part.unknown, *part.keep)
            _check_conditions(template.id, patterns, knowledge)
        _check_kernel(template, f"{knowledge.where[template.id]}: {template.id}")
        zones = [zone.name for zone in template.zones]
        for zone in (template.kernel_zone, *(line.zone for line in template.boundaries)):
            if zone not in zones:
                raise KnowledgeError(
                    f"no zone {zone!r}", where=f"{knowledge.where[template.id]}: {template.id}"
                )


def _check_kernel(template: Template, where: str) -> None:
    """What was measured of a kernel is true of that kernel alone."""
    kept = [one for one in template.conditions.keep if one.startswith((*OF_THE_KERNEL, "*"))]
    if kept and template.kernel == "other":
        raise KnowledgeError(
            f"keeps {kept[0]!r}, which is the measured kernel's, under another kernel", where=where,
            remedy='leave it out, or say kernel = "measured" or "alike"',
        )  # fmt: skip
    if template.kernel == "measured" and any(one.kind == "machine" for one in template.boundaries):
        raise KnowledgeError("a machine of its own does not run the measured kernel", where=where)


def _check_mechanism(mechanism: Mechanism, knowledge: Knowledge) -> None:
    label = f"{knowledge.where[mechanism.id]}: {mechanism.id}"
    if not mechanism.signs:
        raise KnowledgeError("a mechanism needs at least one sign", where=label)
    missing = set(mechanism.signs) - set(mechanism.closes)
    if missing:
        raise KnowledgeError(f"closes lacks its sign {sorted(missing)[0]!r}", where=label)
    _check_conditions(mechanism.id, (*mechanism.signs, *mechanism.closes), knowledge)


def _check_conditions(entry_id: str, conditions: tuple[str, ...], knowledge: Knowledge) -> None:
    for condition in conditions:
        problem = check_condition(condition, knowledge)
        if problem:
            raise KnowledgeError(problem, where=f"{knowledge.where[entry_id]}: {entry_id}")
