"""What a traced run of a result lacked, each with the option of `harden` that gives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ringfence.harden.entrance import how_to_write
from ringfence.harden.keep.kept import NEVER
from ringfence.harden.observe.trace import Trace, read_trace
from ringfence.harden.policy.seccomp import FILTERED
from ringfence.harden.record import Report
from ringfence.harden.result import read_left_out, read_report
from ringfence.harden.tree import Tree
from ringfence.report.shell import shell_word
from ringfence.run.tracing import LOG

CLOSED = ("EACCES", "EROFS", "EPERM")
CACHE = "__pycache__"
"""Python writes there if it can, and says nothing if it cannot (PEP 3147)."""
MOST_NAMED = 3
"""Of names in a folder, in a line."""


class LeftOut:
    """What a tree had before and has not now. A command's tree is this host's own: what is there
    is there to be looked at."""

    def __init__(self, files: frozenset[str] | None) -> None:
        """`files` as `read_left_out` gives them."""
        self._files = files
        self._names: dict[str, set[str]] = {}
        for path in files or ():
            while path and path not in (known := self._names.setdefault(_folder(path), set())):
                known.add(path)
                path = _folder(path)

    def holds(self, path: str) -> bool:
        """Whether it is a file among them, or a folder with some."""
        if self._files is not None:
            return path in self._files or path in self._names
        if path.partition("/")[0] in NEVER:
            return False
        return Path(f"/{path}").is_file() or Path(f"/{path}").is_dir()

    def names(self, folder: str) -> set[str]:
        """Names in a folder that are theirs, or lead to some. Where the tree is the host's, all
        that are there."""
        if self._files is not None:
            return {path.rpartition("/")[2] for path in self._names.get(folder, ())}
        return set() if folder.partition("/")[0] in NEVER else set(Tree(Path("/")).names(folder))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def lacks(result: Path, traced: Path, root: Path, folder: str) -> tuple[str, ...]:
    """Lines for a person. `result` is the directory that harden wrote, `traced` holds strace's
    log, `root` is the tree that it ran in and `folder` its working directory there. Raises
    InputError."""
    with (traced / LOG).open(errors="surrogateescape") as log:
        trace = read_trace(log, 0, 0, folder)
    left_out = LeftOut(read_left_out(result))
    found = dict.fromkeys(
        (*_files(trace, Tree(root), left_out), *_calls(trace, read_report(result)))
    )
    return tuple(found)


def _files(trace: Trace, tree: Tree, left_out: LeftOut) -> Iterator[str]:
    yield from _unwritten(trace, tree)
    for use in trace.uses:
        if use.writes:
            continue
        path = tree.resolve(use.path)[0]
        word = shell_word(f"/{path}")
        if use.error == "ENOENT" and left_out.holds(path) and tree.status(path) is None:
            yield f"it looked for {word}, which was left out: ringfence harden ... --keep {word}"
        elif use.error in CLOSED:
            yield f"its user may not use {word} ({use.call}: {use.error})"
    for folder in trace.listed:
        yield from _unlisted(tree.resolve(folder)[0], tree, left_out)


def _unwritten(trace: Trace, tree: Tree) -> Iterator[str]:
    """One line for all of a folder that were closed for the same reason, with the same remedy."""
    found: dict[tuple[str, str, str], dict[str, None]] = {}
    for use in trace.uses:
        if use.writes and use.error in CLOSED:
            path = tree.resolve(use.path)[0]
            place = _place(path)
            option = how_to_write(path, use.call) if place != CACHE else ""
            found.setdefault((place, use.error, option), {})[path] = None
    for (place, error, option), paths in found.items():
        yield _passed_over(error, paths) if place == CACHE else _closed(error, option, paths)


def _place(path: str) -> str:
    """What a file that could not be written is told together with: its folder, or all that Python
    keeps of what it compiled."""
    folder, _, name = path.rpartition("/")
    return CACHE if CACHE in (name, folder.rpartition("/")[2]) else folder


def _passed_over(error: str, paths: dict[str, None]) -> str:
    folders = {path if path.endswith(CACHE) else _folder(path) for path in paths}
    return (f"it could not write {len(paths)} files in {len(folders)} folders {CACHE} ({error}), "
            "where Python keeps what it compiled, and which it does without")  # fmt: skip


def _closed(error: str, option: str, paths: dict[str, None]) -> str:
    first, further = next(iter(paths)), len(paths) - 1
    more = f" and {further} more beside it" if further else ""
    words = f"ringfence harden ... {option}" if option else "no option makes it writable"
    return f"it could not write {shell_word(f'/{first}')}{more} ({error}): {words}"


def _unlisted(folder: str, tree: Tree, left_out: LeftOut) -> Iterator[str]:
    """Who reads a folder's names, as Python does of those that it imports from, asks for none that
    it did not see there."""
    inside = f"{folder}/" if folder else ""
    names = left_out.names(folder) - {CACHE}
    gone = sorted(name for name in names if tree.status(f"{inside}{name}") is None)
    if gone:
        shown = ", ".join(shell_word(name) for name in gone[:MOST_NAMED])
        further = len(gone) - MOST_NAMED
        more = f" and {further} more" if further > 0 else ""
        yield (f"it read the names in {shell_word(f'/{folder}')} without those that were left "
               f"out: {shown}{more}: ringfence harden ... --keep "
               f"{shell_word(f'/{inside}NAME')}")  # fmt: skip


def _calls(trace: Trace, report: Report) -> Iterator[str]:
    for name, words in trace.refused.items():
        if name not in report.calls or name in report.taken or name in FILTERED:
            yield f"it was refused {name}({words}): ringfence harden ... --allow {name}"
