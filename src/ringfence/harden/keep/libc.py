"""Files that the C library, OpenSSL and their like read by themselves (libc.toml)."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources

import msgspec

from ringfence.harden.binary.loaded import Loaded, Unreadable
from ringfence.harden.keep.kept import Kept


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of libc.toml."""

    imports: tuple[str, ...]
    files: tuple[str, ...]
    why: str

    def applies(self, names: frozenset[str]) -> bool:
        """Whether one of the imports is among `names`."""
        exact = {word for word in self.imports if not word.endswith("*")}
        starts = tuple(word[:-1] for word in self.imports if word.endswith("*"))
        return bool(exact & names) or (
            bool(starts) and any(name.startswith(starts) for name in names)
        )


@functools.cache
def rules() -> tuple[Rule, ...]:
    """All entries."""
    text = resources.files("ringfence.harden.keep").joinpath("libc.toml").read_text()
    return tuple(msgspec.convert(row, Rule) for row in tomllib.loads(text)["rule"])


def keep_library_files(kept: Kept, paths: list[str]) -> list[str]:
    """What the ELF files among `paths` make their libraries read; the new files."""
    added = []
    for path in paths:
        names = imported(kept.tree.read(path))
        for rule in rules() if names else ():
            if not rule.applies(names):
                continue
            for file in rule.files:
                reason = f"{rule.why}, for {path}"
                if kept.tree.is_folder(file):
                    added += kept.add_below(file, reason)
                elif (new := kept.add(file, reason)) is not None:
                    added.append(new)
    return added


def imported(data: bytes) -> frozenset[str]:
    """Names that an ELF file asks others for; its own in a static program; none otherwise."""
    if data[:4] != b"\x7fELF":
        return frozenset()
    try:
        loaded = Loaded(data)
    except Unreadable:
        return frozenset()
    return frozenset(name for name, _, _, here in loaded.symbols if not here)
