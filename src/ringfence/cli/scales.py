"""What the words of --scale and --from name."""

from __future__ import annotations

from pathlib import Path

from ringfence.errors import InputError, UsageError
from ringfence.knowledge.loader import load_scale
from ringfence.knowledge.records import Knowledge, Scale


def chosen_scale(word: str, knowledge: Knowledge) -> Scale:
    """A scale of the knowledge base by its id, or a user's own from a file."""
    if word in knowledge.scales:
        return knowledge.scales[word]
    if Path(word).is_file():
        own = load_scale(Path(word))
        if own.id in knowledge.scales:
            # A report names its scale by id alone.
            raise InputError(
                f"has the id {own.id!r} of a scale that is known",
                where=word,
                remedy="give it an id of its own",
            )
        return own
    known = ", ".join(knowledge.scales)
    raise UsageError(f"no scale {word!r}", remedy=f"use {known} or a TOML file")


def checked_start(word: str | None, knowledge: Knowledge) -> str:
    """The start's id, empty for automatic."""
    if not word or word in knowledge.starts:
        return word or ""
    raise UsageError(f"no start {word!r}", remedy=f"use one of {', '.join(knowledge.starts)}")
