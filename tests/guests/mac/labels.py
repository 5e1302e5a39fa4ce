"""Labels of files as `restorecon` gives them: the last line of file_contexts that fits decides."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable

_KINDS = {"--": stat.S_IFREG, "-d": stat.S_IFDIR, "-l": stat.S_IFLNK, "-s": stat.S_IFSOCK,
          "-c": stat.S_IFCHR, "-b": stat.S_IFBLK, "-p": stat.S_IFIFO}  # fmt: skip


def labels(contexts: str, members: Iterable[tuple[str, int]], default: str) -> dict[str, str]:
    """Path to context, for paths with their modes; file_contexts(5) as selabel_file(5) reads it."""
    rules = []
    for line in contexts.splitlines():
        if line.startswith("#"):
            continue
        words = line.split()
        kind = _KINDS[words[1]] if len(words) == 3 else None
        rules.append((re.compile(words[0]), kind, words[-1]))
    found = {}
    for path, mode in members:
        found[path] = default
        for pattern, kind, context in rules:
            if kind in (None, stat.S_IFMT(mode)) and pattern.fullmatch(path):
                found[path] = context
    return found
