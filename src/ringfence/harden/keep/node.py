"""Node modules: packages of node_modules of which a file is used, whole, and their dependencies;
and what the service's own scripts name: in `require` and `import`, and files in other texts."""

from __future__ import annotations

import re
from functools import partial
from pathlib import PurePosixPath

from ringfence.harden.keep.application import owned_with
from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.readable import open_along
from ringfence.harden.keep.texts import keep_content, keep_texts
from ringfence.untrusted import Undecodable, decode_json

_PACKAGE = re.compile(r"(.*/node_modules)/((?:@[^/]+/)?[^/]+)")
_NAMED = re.compile(
    r"""(?:\brequire\s*\(\s*|\bimport\s*\(\s*|\bfrom\s+|\bimport\s+)["']([^"'\n]{1,200})["']"""
)
_TEXT = re.compile(r"""(["'`])([^"'`\n]{1,200})\1""")
_SCRIPT = (".js", ".mjs", ".cjs")
MOST_SCRIPT = 4 << 20


def keep_node(kept: Kept) -> list[str]:
    """What kept scripts load, in turn; the new files."""
    added: list[str] = []
    waiting = [path for path in kept.files() if path.endswith(_SCRIPT)]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        match = _PACKAGE.match(path)
        if match:
            new = _package(kept, match[0])
        else:
            text = kept.tree.read(path, MOST_SCRIPT).decode("utf-8", "replace")
            new = [file for name in dict.fromkeys(_NAMED.findall(text))
                   for file in _load(kept, name, path)]  # fmt: skip
            new += keep_texts(kept, path, [found[1] for found in _TEXT.findall(text)], own=True)
        added += new
        waiting += [file for file in new if file.endswith(_SCRIPT)]
    return added + keep_content(kept, [path for path in seen if not _PACKAGE.match(path)])


def _load(kept: Kept, name: str, importer: str) -> list[str]:
    folder = importer.rpartition("/")[0]
    reason = f"loaded by {importer} ({name})"
    if name.startswith("."):
        place = kept.tree.resolve(f"{folder}/{name}")[0]
        for file in (place, *(place + end for end in (*_SCRIPT, ".json", ".node")),
                     f"{place}/index.js"):  # fmt: skip
            if kept.tree.is_file(file):
                new = kept.add(file, reason)
                return [new] if new is not None else []
        return []
    found = _find(kept, name, folder)
    return _package(kept, found) if found else []


def _find(kept: Kept, name: str, folder: str) -> str | None:
    """The package's folder in the nearest node_modules above."""
    parts = name.split("/")
    plain = "/".join(parts[: 2 if name.startswith("@") else 1])
    for above in (PurePosixPath(folder), *PurePosixPath(folder).parents):
        place = str(above / "node_modules" / plain).lstrip("./")
        if kept.tree.is_folder(place):
            return place
    return None


def _package(kept: Kept, folder: str) -> list[str]:
    """A package whole, without others' closed files, and what its package.json depends on."""
    if f"{folder}/package.json" in kept.reasons and folder in kept.reasons:
        return []
    real = kept.tree.resolve(folder)[0]
    own = _PACKAGE.match(real) is not None  # else a link leads out of all packages
    fitting = (
        owned_with(kept.tree, f"{real}/package.json") if own else partial(open_along, kept.tree)
    )
    added = kept.add_below(folder, "the Node package is kept whole", fitting)
    try:
        document = decode_json(kept.tree.read(f"{folder}/package.json", 1 << 20))
    except Undecodable:
        return added
    wanted = document.get("dependencies") if isinstance(document, dict) else None
    for name in wanted if isinstance(wanted, dict) else ():
        found = _find(kept, str(name), folder)
        added += _package(kept, found) if found else []
    return added
