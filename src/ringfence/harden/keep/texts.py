"""Files and folders that scripts name in their texts, and what lies beside content they opened.

Absolute paths count in every script; names beside it only in the service's own, where a text
like `public` or `templates/late.html` is meant so. Folders of packages stay with their rules. Of
what the service did not open, only what everybody may read is kept, or what is the application's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial

from ringfence.harden.keep.application import owned_with
from ringfence.harden.keep.configuration import SHARED, keep_path
from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.readable import open_along

_ABSOLUTE = re.compile(r"/[\w.+@-]+(?:/[\w.+@-]+){1,12}/?")
_BESIDE = re.compile(r"(?:\./)?[\w@-][\w.+@-]*(?:/[\w.+@-]+){0,12}/?")
_PROGRAMS = re.compile(r"(?:^|/)s?bin/[^/]+\Z")
_OF_PACKAGES = re.compile(r"/(?:node_modules|site-packages|dist-packages)(?:/|\Z)")
_NO_CONTENT = re.compile(r"\.(?:py|pyc|js|mjs|cjs)\Z")
_NO_FOLDER = ("bin", "sbin", "__pycache__")


def keep_texts(kept: Kept, script: str, texts: Iterable[str], *, own: bool) -> list[str]:
    """What the texts of a script name; the new files. `own`: it is the service's own."""
    folder = script.rpartition("/")[0]
    reason = f"named in the text of {script}"
    fitting = owned_with(kept.tree, script) if own else partial(open_along, kept.tree)
    added: list[str] = []
    for text in dict.fromkeys(texts):
        if _ABSOLUTE.fullmatch(text):
            real = kept.tree.resolve(text)[0]
            if own or (kept.tree.is_file(real) and not _PROGRAMS.search(real)):
                added += _keep(kept, real, reason, fitting)
        elif own and folder and not SHARED.match(folder) and _BESIDE.fullmatch(text):
            added += _keep(kept, f"{folder}/{text}", reason, fitting)
    return added


def _keep(kept: Kept, path: str, reason: str, fitting: Callable[[str], bool]) -> list[str]:
    real = kept.tree.resolve(path)[0]
    if kept.tree.is_folder(real) and _holds_packages(kept, real):
        return []
    return keep_path(kept, path, reason, fitting)


def _holds_packages(kept: Kept, folder: str) -> bool:
    """Whether a folder is one of packages, or has one in it of which something is kept."""
    return bool(_OF_PACKAGES.search(f"/{folder}")) or any(
        path.startswith(f"{folder}/") and _OF_PACKAGES.search(path) for path in kept.reasons
    )


def keep_content(kept: Kept, scripts: Iterable[str]) -> list[str]:
    """Folders beside the service's own `scripts` of which a file that is no code is kept, and not
    for its place alone: whole but for others' closed files, since a page that nobody asked for has
    its template there, too. The new files."""
    places = {folder: path for path in scripts if (folder := path.rpartition("/")[0])}
    places = {folder: path for folder, path in places.items() if not SHARED.match(folder)}
    found: dict[str, str] = {}
    for path in kept.files():
        if path in kept.application or _NO_CONTENT.search(path) or _OF_PACKAGES.search(path):
            continue
        for place, script in places.items():
            top, _, rest = path[len(place) + 1 :].partition("/")
            if path.startswith(f"{place}/") and rest and top not in _NO_FOLDER:
                found[f"{place}/{top}"] = script
    added: list[str] = []
    for folder, script in found.items():
        if not _holds_packages(kept, folder):
            added += kept.add_below(
                folder, "beside content that the service opened", owned_with(kept.tree, script)
            )
    return added
