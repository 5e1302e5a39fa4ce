"""From marks to what an image is: its system, its boot protocols, its languages. Pure."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from ringfence.collect.guest.elf import Layout
from ringfence.collect.guest.marks import Mark, Reading
from ringfence.collect.guest.solo5 import Manifest
from ringfence.knowledge.guests import Choice, Guests, Language, Protection, Sign, System, Word
from ringfence.model.evidence import Evidence, Grade, Unseen


class Guest(msgspec.Struct, frozen=True):
    """An image as it was read.

    `system` is the entry that its marks show, or the unknown one; `shown` are those marks.
    `layout` and `manifest` are there for an ELF kernel (of a boot image: of the kernel inside it)
    and for Solo5. `command` is the command line that a unified kernel image carries, with its
    evidence. `symbols` tells whether a table of symbol names was read, so that a name's absence
    says something. `facts` are for people, in the order in which they were read.
    """

    name: str
    format: str
    size: int
    system: System
    shown: tuple[Mark, ...]
    others: tuple[str, ...]
    version: Evidence | None
    protocols: tuple[tuple[Sign, Mark], ...]
    languages: tuple[tuple[Language, Mark], ...]
    protections: tuple[tuple[Protection, Mark], ...]
    choice: Choice
    facts: dict[str, Evidence]
    unseen: tuple[Unseen, ...]
    symbols: Evidence | None = None
    layout: Layout | None = None
    manifest: Manifest | None = None
    command: Evidence | None = None

    @property
    def recognised(self) -> bool:
        """Whether the system is known."""
        return bool(self.shown)


class Contents(msgspec.Struct, frozen=True):
    """What a format's reader hands on beside the marks."""

    format: str
    layout: Layout | None = None
    manifest: Manifest | None = None
    command: Evidence | None = None


def recognise(name: str, size: int, contents: Contents, reading: Reading, guests: Guests) -> Guest:
    """What the image is. The first system of guests.toml whose signs are shown; never a guess."""
    shown = [(system, marks) for system in guests.system
             if (marks := reading.show(system.signs)) is not None]  # fmt: skip
    system, marks = shown[0] if shown else (guests.unknown, ())
    choice = next(item for item in system.deployments if reading.show(item.when) is not None)
    symbols = reading.marks.get("magic:symbols")
    return Guest(
        name=name,
        format=contents.format,
        size=size,
        system=system,
        shown=tuple(dict.fromkeys(marks)),
        others=tuple(other.title for other, _ in shown[1:] if other.title != system.title),
        version=reading.versions.get(system.id),
        protocols=_shown(guests.protocol, reading),
        languages=_shown(guests.language, reading),
        protections=_shown(guests.protection, reading),
        choice=choice,
        facts=dict(reading.facts),
        unseen=tuple(reading.unseen),
        symbols=None if symbols is None else symbols.evidence,
        layout=contents.layout,
        manifest=contents.manifest,
        command=contents.command,
    )


S = TypeVar("S", bound=Sign)


def _shown(entries: tuple[S, ...], reading: Reading) -> tuple[tuple[S, Mark], ...]:
    """The entries whose signs the image shows, each with the first mark that does."""
    found = ((entry, reading.show(entry.signs)) for entry in entries)
    return tuple((entry, marks[0]) for entry, marks in found if marks)


def decided(command: Evidence, guests: Guests) -> tuple[tuple[Word, Evidence], ...]:
    """The words of a command line that decide something; a configuration: grade `declared`."""
    found = []
    for text in command.detail.split():
        for word in guests.word:
            if re.fullmatch(word.pattern, text):
                found.append((word, Evidence(Grade.DECLARED, command.source, text)))
    return tuple(found)
