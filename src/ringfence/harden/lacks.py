"""What a traced run of a result lacked, each with the option of `harden` that gives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ringfence.harden.entrance import how_to_write
from ringfence.harden.observe.trace import Trace, Use, read_trace
from ringfence.harden.policy.seccomp import FILTERED
from ringfence.harden.record import Report
from ringfence.harden.result import read_left_out, read_report
from ringfence.harden.tree import Tree
from ringfence.report.shell import shell_word
from ringfence.run.tracing import LOG

CLOSED = ("EACCES", "EROFS", "EPERM")


def lacks(result: Path, traced: Path, root: Path, folder: str) -> tuple[str, ...]:
    """Lines for a person. `result` is the directory that harden wrote, `traced` holds strace's
    log, `root` is the tree that it ran in and `folder` its working directory there. Raises
    InputError."""
    with (traced / LOG).open(errors="surrogateescape") as log:
        trace = read_trace(log, 0, 0, folder)
    left_out = read_left_out(result)
    found = dict.fromkeys(
        (*_files(trace, Tree(root), left_out), *_calls(trace, read_report(result)))
    )
    return tuple(found)


def _files(trace: Trace, tree: Tree, left_out: frozenset[str] | None) -> Iterator[str]:
    for use in trace.uses:
        path = tree.resolve(use.path)[0]
        if use.error == "ENOENT" and not use.writes and _was_there(path, left_out):
            word = shell_word(f"/{path}")
            yield f"it looked for {word}, which was left out: ringfence harden ... --keep {word}"
        elif use.error in CLOSED:
            yield _closed(use, path)


def _was_there(path: str, left_out: frozenset[str] | None) -> bool:
    """A command's tree is this host's own: what is there is there to be looked at."""
    return path in left_out if left_out is not None else Path(f"/{path}").is_file()


def _closed(use: Use, path: str) -> str:
    word = shell_word(f"/{path}")
    if use.writes:
        option = how_to_write(path, use.call)
        words = f"ringfence harden ... {option}" if option else "no option makes it writable"
        return f"it could not write {word} ({use.error}): {words}"
    return f"its user may not use {word} ({use.call}: {use.error})"


def _calls(trace: Trace, report: Report) -> Iterator[str]:
    for name, words in trace.refused.items():
        if name not in report.calls or name in report.taken or name in FILTERED:
            yield f"it was refused {name}({words}): ringfence harden ... --allow {name}"
