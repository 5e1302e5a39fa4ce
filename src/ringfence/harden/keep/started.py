"""Scripts that a command starts: behind its interpreter's options, and behind wrappers that end in
`exec "$@"`."""

from __future__ import annotations

import re
from typing import NamedTuple

from ringfence.collect.files.programs import class_of
from ringfence.harden.keep.shell import MOST_LINE, MOST_SCRIPT, interpreter
from ringfence.harden.service import Service
from ringfence.harden.tree import Tree

RUNNERS = ("interpreter", "shell")
_HANDS_OVER = re.compile(rb"(?m)(?:^[ \t]*|[;&|][ \t]*|\bexec\b[^\n]*[ \t])\"?\$(?:@|\{@\})")
_COMMENT = re.compile(rb"(?m)(?:^|(?<=\s))#.*$")
MOST_WRAPPERS = 8


class _Options(NamedTuple):
    """Of an interpreter: options whose argument may be the next word, and those with which no
    script follows. Letters may stand together behind one dash, but for `words`."""

    taking: str
    instead: str
    words: tuple[str, ...] = ()
    words_instead: tuple[str, ...] = ()


_OPTIONS = (
    (re.compile(r"node(?:js)?[\d.]*\Z"), _Options(
        "rC", "ep",
        ("--require", "--import", "--loader", "--experimental-loader", "--conditions", "--title"),
        ("--eval", "--print"),
    )),
    (re.compile(r"python[\d.]*\Z"), _Options("WX", "mc", ("--check-hash-based-pycs",))),
    (re.compile(r"ruby[\d.]*\Z"), _Options("rICE", "e")),
    (re.compile(r"perl[\d.]*\Z"), _Options("IM", "eE")),
    (re.compile(r"php[\d.]*\Z"), _Options("cdSt", "r")),
    (re.compile(r"(?:ba|da|a|k|z)?sh\Z"), _Options("oO", "c", ("--rcfile", "--init-file"))),
)  # fmt: skip


def scripts_started(tree: Tree, service: Service, program: str) -> list[str]:
    """Real paths of the scripts that a service's command starts, in order: the `program` itself or
    what its interpreter is told to run, and what a wrapper hands over to."""
    found: list[str] = []
    words = service.command[1:]
    for _ in range(MOST_WRAPPERS):
        real = tree.resolve(program)[0]
        script = real if interpreter(tree.read(real, MOST_LINE))[0] else ""
        if not script and class_of(real) in RUNNERS:
            words = _behind_options(program.rpartition("/")[2], words)
            while words and not tree.is_file(tree.resolve(words[0], service.folder)[0]):
                words = words[1:]  # an applet, a subcommand, the argument of an unknown option
            script = tree.resolve(words[0], service.folder)[0] if words else ""
            words = words[1:]
        if not script or not tree.is_file(script):
            return found
        found.append(script)
        text = _COMMENT.sub(b"", tree.read(script, MOST_SCRIPT))
        following = _program(tree, service, words[0]) if words else None
        if following is None or not _HANDS_OVER.search(text):
            return found
        program, words = following, words[1:]
    return found


def _program(tree: Tree, service: Service, name: str) -> str | None:
    if "/" in name and not name.startswith("/"):
        name = f"{service.folder}/{name}"
    return tree.program(name, service.search())


def _behind_options(runner: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """The script and its arguments; nothing where the interpreter is told to run something else."""
    known = next((options for name, options in _OPTIONS if name.match(runner)), _Options("", ""))
    while words and words[0].startswith("-") and words[0] != "--":
        word, words = words[0], words[1:]
        if word.startswith("--"):
            if word.partition("=")[0] in known.words_instead:
                return ()
            words = words[1:] if word in known.words else words
            continue
        first = next((char for char in word[1:] if char in known.taking + known.instead), "")
        if first and first in known.instead:
            return ()
        if first and word.endswith(first) and word.index(first) == len(word) - 1:
            words = words[1:]
    return words[1:] if words[:1] == ("--",) else words
