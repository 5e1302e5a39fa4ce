"""Files that the service opened, executed or looked at while it was traced."""

from __future__ import annotations

from ringfence.harden.keep.kept import Kept
from ringfence.harden.observe.trace import Trace

LOOKED = frozenset(("stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2"))
MADE = frozenset(("creat", "mkdir", "mkdirat", "symlink", "symlinkat", "rename", "bind"))


def keep_observed(kept: Kept, trace: Trace) -> None:
    """Everything that a call with a path succeeded on, or a folder that it wanted to make and
    found, if it was there before the run."""
    for use in trace.uses:
        if use.error == "EEXIST" and use.call.startswith("mkdir"):
            kept.add(use.path, f"found there while it was observed ({use.call})")
        if use.error or use.call in MADE:
            continue
        verb = "executed" if use.call.startswith("exec") else (
            "looked at" if use.call in LOOKED else "opened"
        )  # fmt: skip
        if use.call.startswith("open"):
            kept.live.add(kept.tree.resolve(use.path)[0])
        kept.add(use.path, f"{verb} while it was observed ({use.call})")
