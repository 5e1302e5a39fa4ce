"""What the digests of a database of AIDE are worth: by which algorithms, and which are missing."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ringfence.watch.baseline.entry import FILE, Group, algorithm_of, joined
from ringfence.watch.baseline.items import shown
from ringfence.watch.baseline.rules import Mode, Rule, Rules

WEAK = ("sha1", "md5")
NAMED = 3
"""Files of each kind that a note names."""


class Digests(msgspec.Struct):
    """`mixed`: not all are by the one algorithm. `weak` and `missing`: how many files have a digest
    by an algorithm of which two files with one digest can be made, or have none that is known
    here though their rule asks for it; with the first of them."""

    mixed: bool = False
    weak: int = 0
    missing: int = 0
    first_weak: list[bytes] = []
    first_missing: list[bytes] = []

    def notes(self) -> list[str]:
        """What whoever takes a database over has to know."""
        found = []
        if self.missing:
            found.append(
                f"WARNING: content of {_files(self.missing, self.first_missing)} is not compared "
                "before a new baseline or `check --update`: AIDE's database has no SHA-256, "
                "SHA-512, SHA-1 or MD5 of it"
            )
        if self.weak:
            found.append(
                f"WARNING: content of {_files(self.weak, self.first_weak)} is compared by SHA-1 or "
                "MD5 alone, for which another content can be made"
            )
        return found


def digests_of(groups: Iterable[Group], rules: Rules, algorithm: str) -> Digests:
    """The digests of entries, `algorithm` being the usual one."""
    found = Digests()
    for folder, entries in groups:
        of_folder = rules.of_folder(folder)
        for entry in entries:
            if entry.kind != FILE:
                continue
            path = joined(folder, entry.name)
            if entry.digest is None:
                if _by_content(of_folder.of(entry.name, FILE)):
                    found.missing += 1
                    found.first_missing += [path] * (found.missing <= NAMED)
                continue
            own = algorithm_of(entry.digest, algorithm)
            found.mixed = found.mixed or own != algorithm
            if own in WEAK:
                found.weak += 1
                found.first_weak += [path] * (found.weak <= NAMED)
    return found


def _by_content(rule: Rule) -> bool:
    """Whether the content is compared where it can be."""
    if rule.attributes is not None:
        return "content" in rule.attributes
    return rule.mode is not Mode.METADATA


def _files(count: int, first: list[bytes]) -> str:
    names = ", ".join(shown(b"/" + path)[0] for path in first)
    more = ", ..." if count > len(first) else ""
    return f"{count} {'file' if count == 1 else 'files'} ({names}{more})"
