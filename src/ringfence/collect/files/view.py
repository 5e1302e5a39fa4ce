"""The files that a live workload has in view: its root file system, and what is mounted in it that
programs may be run from with their owner's privileges."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ringfence.collect.files.directory import read_directory
from ringfence.model.evidence import Unseen
from ringfence.model.files import Tree
from ringfence.model.mounts import answers, honours_setuid
from ringfence.model.process import Mount

MOST_CONTAINER_FILES = 50_000
"""A container's file tree is read up to here, so that a measurement stays a matter of a second."""

WITHOUT_ELF = "a live file tree is read quickly; measured as a folder or an image they are read"

OVERLAY = "overlay"
"""On a host the root file systems of its containers, which are targets of their own."""


def tree_in_view(
    root: Path, mounts: tuple[Mount, ...] | None, most_files: int = MOST_CONTAINER_FILES
) -> Tree:
    """The tree of a container below `root`, up to `most_files`; `mounts` None where they could not
    be read. Raises InputError."""
    other = _others(mounts or ())
    tree = read_directory(
        root,
        with_elf=False,
        max_files=most_files,
        mounts=[item.path for item in other if not answers(item)],
    )
    tree = _and_unseen(tree, _elf_below(root))
    if mounts is None:
        return _in_part(tree, Unseen("files on other mounts", "the mounts could not be read"))
    left = [item for item in other if answers(item)]
    why = "whoever serves it may not answer"
    return _in_part(tree, _left_out(left, why)) if left else tree


def tree_of_host(mounts: tuple[Mount, ...] | None) -> Tree:
    """This host's root file system; what else may hold setuid programs is told as not seen."""
    tree = _and_unseen(read_directory(Path("/"), with_elf=False), _elf_below(Path("/")))
    mounted = mounts or ()
    # What is on the root's own file system was passed on the way.
    own = {item.device for item in mounted if item.path == "/"}
    other = [item for item in _others(mounted) if item.device not in own]
    left = [item for item in other if item.fstype != OVERLAY]
    why = "of a host its root file system alone is read"
    return _in_part(tree, _left_out(left, why)) if left else tree


def _others(mounts: tuple[Mount, ...]) -> list[Mount]:
    """What is mounted below the root directory and may hold setuid programs."""
    seen = [item for item in mounts if not item.hidden and item.path != "/"]
    return [item for item in seen if honours_setuid(item)]


def _left_out(mounts: list[Mount], why: str) -> Unseen:
    return Unseen(f"files on {len(mounts)} other mount(s), the first {mounts[0].path[:200]!r}", why)


def _elf_below(root: Path) -> Unseen:
    return Unseen(f"protections of the ELF files below {root}", WITHOUT_ELF)


def _and_unseen(tree: Tree, missing: Unseen) -> Tree:
    return msgspec.structs.replace(tree, unseen=(*tree.unseen, missing))


def _in_part(tree: Tree, missing: Unseen) -> Tree:
    return msgspec.structs.replace(_and_unseen(tree, missing), complete=False)
