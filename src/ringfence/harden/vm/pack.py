"""The initial RAM disk of a hardened service, and the command line to start a stock kernel with."""

from __future__ import annotations

import gzip
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ringfence.errors import InputError
from ringfence.harden.layout import Entry
from ringfence.harden.policy.needs import Needs
from ringfence.harden.policy.seccomp import profile
from ringfence.harden.service import program_of
from ringfence.harden.tree import Tree
from ringfence.harden.vm.cpio import Member, archive
from ringfence.harden.vm.modules import Module, find_modules, kernel_release
from ringfence.harden.vm.program import init_program
from ringfence.harden.vm.settings import COMMAND_LINE, OWN, settings
from ringfence.run.compile import compiled

INITRD, CMDLINE = "vm.initrd", "vm.cmdline"
_TYPES = {"file": stat.S_IFREG, "folder": stat.S_IFDIR, "link": stat.S_IFLNK}


class Parts(msgspec.Struct, frozen=True):
    """What does not come from the service: the kernel's release, its drivers (None: not looked
    for, they must be built in), the init."""

    release: str
    modules: tuple[Module, ...] | None
    init: bytes


def parts(kernel: Path, modules: Path | None) -> Parts:
    """Before any work: whether a machine can be made. Raises InputError, MissingError."""
    return Parts(kernel_release(kernel), find_modules(kernel, modules), init_program())


def packed(own: Parts, needs: Needs, tree: Tree, base_time: int) -> dict[str, bytes]:
    """The files for the result directory, by name. Raises InputError where they cannot be made."""
    members = [*_service(needs.entries, tree), *_ours(own, needs, tree)]
    # gzip, since every kernel that has initial RAM disks at all is built to expand it.
    initrd = gzip.compress(archive(members, base_time), 9, mtime=0)
    return {INITRD: initrd, CMDLINE: " ".join(COMMAND_LINE).encode() + b"\n"}


def _service(entries: tuple[Entry, ...], tree: Tree) -> Iterator[Member]:
    yield Member(".", stat.S_IFDIR | 0o755)
    for entry in entries:
        if entry.path == OWN:
            raise InputError("is a name of ours", where=f"/{OWN}", remedy=f"--drop /{OWN}")
        body = entry.target.encode("utf-8", "surrogateescape")
        if entry.kind == "file":
            body = tree.read(entry.source, 1 << 40) if entry.content is None else entry.content
        yield Member(entry.path, _TYPES[entry.kind] | entry.mode, entry.uid, entry.gid, body)


def _ours(own: Parts, needs: Needs, tree: Tree) -> Iterator[Member]:
    modules = own.modules or ()
    program = program_of(needs.service, tree)
    names = tuple(module.name for module in modules)
    yield Member(OWN, stat.S_IFDIR | 0o700)
    yield Member(f"{OWN}/init", stat.S_IFREG | 0o700, body=own.init)
    for name, body in (
        ("settings", settings(needs, program, names)),
        ("filter", compiled(profile(needs, needs.calls))),
        *((f"{module.name}.ko", module.body) for module in modules),
    ):
        yield Member(f"{OWN}/{name}", stat.S_IFREG | 0o600, body=body)
