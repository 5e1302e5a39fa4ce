"""Marks: what an image shows, by name and with its place; and facts, in words, for people."""

from __future__ import annotations

import msgspec

from ringfence.collect.guest.source import Source
from ringfence.model.evidence import Evidence, Grade, Unseen
from ringfence.model.need import All, Leaf, Need


class Mark(msgspec.Struct, frozen=True):
    """One thing seen, such as `note:Xen/0x12`; kinds stand in knowledge/guests.toml."""

    id: str
    evidence: Evidence


class Reading:
    """What the readers of one image have found so far."""

    def __init__(self) -> None:
        self.marks: dict[str, Mark] = {}
        self.facts: dict[str, Evidence] = {}
        self.versions: dict[str, Evidence] = {}
        self.unseen: list[Unseen] = []

    def mark(self, name: str, source: Source, at: int, detail: str = "") -> None:
        """Note that `name` was seen at `at`; the first place counts."""
        self.marks.setdefault(name, Mark(name, place(source, at, detail or name)))

    def fact(self, what: str, source: Source, at: int, detail: str) -> None:
        """Note a fact for people; a second one under the same words gets a number."""
        name, count = what, 1
        while name in self.facts:
            count += 1
            name = f"{what} {count}"
        self.facts[name] = place(source, at, detail)

    def version(self, system: str, source: Source, at: int, text: str) -> None:
        """Note the version of a system, should the image turn out to be one; the first counts."""
        self.versions.setdefault(system, place(source, at, text))

    def miss(self, what: str, why: str) -> None:
        """Note that something could not be read."""
        self.unseen.append(Unseen(what, why))

    def has(self, name: str) -> bool:
        """Whether `name` was seen."""
        return name in self.marks

    def show(self, need: Need) -> tuple[Mark, ...] | None:
        """The marks that make `need` true, or None where the image does not show it."""
        if isinstance(need, Leaf):
            found = self.marks.get(need.condition)
            return None if found is None else (found,)
        shown = [self.show(part) for part in need.parts]
        if isinstance(need, All):
            if any(marks is None for marks in shown):
                return None
            return tuple(mark for marks in shown for mark in marks or ())
        return next((marks for marks in shown if marks is not None), None)


def place(source: Source, at: int, detail: str) -> Evidence:
    """Evidence of something read at an offset of the image, in bytes from its start."""
    return Evidence(Grade.OBSERVED, f"{source.name}@{source.base + at:#x}", detail)
