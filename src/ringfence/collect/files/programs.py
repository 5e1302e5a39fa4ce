"""Classes of programs by their file names: the lists are knowledge/programs.toml."""

from __future__ import annotations

import functools
import re
import tomllib
from importlib import resources

_VERSION = re.compile(r"-?[0-9][0-9.]*$")
FOLDERS = frozenset({"bin", "sbin", "libexec", "games"})
"""A program counts where programs are looked for: in a folder of such a name."""


@functools.cache
def _classes() -> dict[str, str]:
    """File name -> class."""
    file = resources.files("ringfence.knowledge").joinpath("programs.toml")
    document = tomllib.loads(file.read_text())
    return {name: kind for kind, entry in document.items() for name in entry["names"]}


def class_of(path: str) -> str | None:
    """The class of the program at `path` (relative to the root), or None."""
    folder, _, name = path.rpartition("/")
    known = _classes()
    kind = known.get(name)
    if kind is None:
        kind = known.get(_VERSION.sub("", name)) if name[-1:].isdigit() else None
    if kind is None:
        return None
    return kind if folder.rpartition("/")[2] in FOLDERS or not folder else None
