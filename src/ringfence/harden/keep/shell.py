"""Scripts: the interpreter that their first line names, and the commands and files that a
shell's script names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from ringfence.harden.keep.configuration import keep_path
from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.readable import open_along
from ringfence.harden.tree import Tree

_WORD = re.compile(r"(?:^|[;&|(`!]|\$\(|\b(?:then|do|else|exec|if|while|until|command|env)\b)\s*"
                   r"(?:\w+=\S*\s+)*(?=([\w./+-]+))", re.M)  # fmt: skip
_PATH = re.compile(r"(?<![\w$}])/[\w./+-]+")
_SHELLS = re.compile(r"(?:^|/)(?:sh|bash|dash|ash|busybox|ksh|zsh)\Z")
_RUN = re.compile(r"(?:^|/)(?:libexec|cgi-bin)/[^/]+\Z")
MOST_SCRIPT = 1 << 20
MOST_LINE = 256
"""Bytes that the kernel looks at (BINPRM_BUF_SIZE)."""


def interpreter(data: bytes) -> tuple[str, str]:
    """The interpreter of a script's `#!` line and its first argument, '' for what is none."""
    if data[:2] != b"#!":
        return "", ""
    words = data[2:MOST_LINE].split(b"\n")[0].decode("utf-8", "replace").split()
    return (words[0], words[1] if len(words) > 1 else "") if words else ("", "")


def with_interpreters(tree: Tree, programs: Iterable[str]) -> list[str]:
    """Real paths of executed `programs`, and of what the kernel ran for those that are scripts: an
    interpreter is executed by the script's name alone, and no call names it (execve(2))."""
    found: dict[str, None] = {}
    waiting = [tree.resolve(path)[0] for path in programs]
    while waiting:
        path = waiting.pop(0)
        if path in found:
            continue
        found[path] = None
        runner, _ = interpreter(tree.read(path, MOST_LINE))
        if runner and tree.is_file(runner):
            waiting.append(tree.resolve(runner)[0])
    return list(found)


def keep_scripts(kept: Kept, paths: list[str], search: tuple[str, ...]) -> list[str]:
    """What the executable scripts among `paths` are run by and call; the new files."""
    added: list[str] = []
    for path in paths:
        data = kept.tree.read(path, MOST_SCRIPT)
        runner, argument = interpreter(data)
        status = kept.tree.status(path)
        if not runner or status is None or not status.st_mode & 0o111:
            continue
        if path not in kept.tools and path not in kept.live and not _RUN.search(path):
            continue  # a module with a first line for those who try it out
        names = [(runner, f"interpreter of {path}")]
        if runner.endswith("/env") and argument:
            names.append((argument, f"interpreter of {path}"))
        if _SHELLS.search(runner):
            text = re.sub(r"(?m)(^|\s)#.*$", "", data.decode("utf-8", "replace"))
            fitting = partial(open_along, kept.tree)
            for match in dict.fromkeys(_PATH.findall(text)):
                if kept.tree.is_file(match):
                    added += keep_path(kept, match, f"named by the script {path}", fitting)
            names += [(word, f"called by the script {path}") for word in set(_WORD.findall(text))]
        for name, reason in names:
            place = kept.tree.program(name, search)
            if place is None:
                continue
            kept.live.add(kept.tree.resolve(place)[0])
            new = kept.add(place, reason)
            added += [new] if new is not None else []
    return added
