"""Searches the contents of an image for the strings that the knowledge base asks about."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ringfence.collect.guest.marks import Reading
from ringfence.collect.guest.source import Source
from ringfence.knowledge.guests import Guests, Version

WINDOW = 1 << 20
MOST_SEARCHED = 160 << 20
"""Bytes searched of one image: a large kernel with all its tables has 60 MB."""
MOST_HITS = 24
"""Places of one string that are looked at for a version."""
AROUND = 400


def search(source: Source, needles: Iterable[str]) -> dict[str, list[int]]:
    """Where each needle (Latin-1) occurs in the first MOST_SEARCHED bytes, at most MOST_HITS."""
    wanted = {needle: needle.encode("latin-1") for needle in needles}
    overlap = max((len(raw) for raw in wanted.values()), default=1) - 1
    found: dict[str, list[int]] = {needle: [] for needle in wanted}
    stop = min(source.size, MOST_SEARCHED)
    at, tail = 0, b""
    while at < stop:
        data = source.read(at, min(WINDOW, stop - at))
        if not data:
            break
        window = tail + data
        start = at - len(tail)
        # Sparse images are mostly zero bytes, and no needle is.
        if window.count(0) < len(window):
            for needle, raw in wanted.items():
                _hits(window, raw, start, found[needle])
        at += len(data)
        tail = window[-overlap:] if overlap else b""
    return found


def _hits(window: bytes, raw: bytes, start: int, hits: list[int]) -> None:
    """Add the places of `raw`; one that lies wholly in the overlap was already seen."""
    place = window.find(raw)
    while place >= 0 and len(hits) < MOST_HITS:
        if not hits or start + place > hits[-1]:
            hits.append(start + place)
        place = window.find(raw, place + 1)


def read_strings(source: Source, guests: Guests, reading: Reading) -> None:
    """Mark every string that a formula asks for, and every system of which a version is named in
    its own form; note what versions are named."""
    asked = guests.asked("string")
    versions = [version for entry in guests.named() for version in entry.versions]
    found = search(source, dict.fromkeys((*asked, *(item.string for item in versions))))
    for needle in asked:
        if found[needle]:
            reading.mark(f"string:{needle}", source, found[needle][0], f"string {needle!r}")
    for entry in (*guests.component, *guests.application):
        for version in entry.versions:
            named = named_at(source, version, found[version.string])
            if named is not None:
                reading.fact(entry.title, source, *named)
                break
    for system in guests.system:
        for version in system.versions:
            named = named_at(source, version, found[version.string])
            if named is not None:
                reading.version(system.id, source, *named)
                at, text = named
                reading.mark(f"version:{system.id}", source, at, f"{version.string}{text}")
    if source.size > MOST_SEARCHED:
        reading.miss("strings", f"only the first {MOST_SEARCHED >> 20} MiB were searched")


def named_at(source: Source, version: Version, places: list[int]) -> tuple[int, str] | None:
    """The first place where the pattern fits, and the version there."""
    pattern = re.compile(version.pattern.encode("latin-1"))
    for place in places:
        match = pattern.match(source.read(place, AROUND))
        if match is not None:
            return place, match["version"].decode("latin-1").strip()
    return None
