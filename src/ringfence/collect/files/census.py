"""Files become a tree: counts, programs by class, privileged files, packages."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable, Mapping

from ringfence.collect.files.packages import packages
from ringfence.collect.files.programs import class_of
from ringfence.collect.process.credentials import CAPABILITIES
from ringfence.model.evidence import Evidence, Unseen
from ringfence.model.files import Elf, File, FileKind, Package, Tree, TreeCounts

MOST_LISTED = 10_000
"""Paths kept of world-writable files: a hostile tree could have nothing else."""

_SET_ID = stat.S_ISUID | stat.S_ISGID
_EXECUTABLE = 0o111


class Census:
    """What is kept of each file: nothing, for most.

    The files may come from a walk that goes on meanwhile: what the walk met with is told to `tree`.
    """

    def __init__(self, files: Iterable[File]) -> None:
        self.files = self.bytes = self.executables = self.libraries = 0
        self.privileged: list[File] = []
        self.programs: dict[str, list[str]] = {}
        self.elf: dict[str, Elf] = {}
        self.world_writable: list[str] = []
        for file in files:
            self._add(file)

    def tree(
        self,
        bodies: Mapping[str, bytes],
        evidence: Evidence,
        unseen: Iterable[Unseen] = (),
        *,
        complete: bool = True,
        with_elf: bool = True,
    ) -> Tree:
        """The tree of the files; `bodies` holds the package databases by path. `with_elf` tells
        whether their ELF headers were read."""
        found, broken = packages(bodies)
        return Tree(
            counts=self._counts(found, with_elf=with_elf),
            privileged=tuple(self.privileged),
            programs={kind: tuple(paths) for kind, paths in self.programs.items()},
            elf=self.elf,
            packages=found,
            world_writable=tuple(self.world_writable),
            evidence=evidence,
            complete=complete,
            unseen=(*unseen, *broken),
        )

    def _add(self, file: File) -> None:
        if file.kind is FileKind.DIRECTORY:
            if file.mode & 0o1002 == 0o0002:
                self._note_writable(file.path)
            return
        self.files += 1
        self.bytes += file.size
        name = file.path.rpartition("/")[2]
        runs = file.kind is FileKind.REGULAR and file.mode & _EXECUTABLE
        if runs or file.kind is FileKind.SYMLINK:
            kind = class_of(file.path)
            if kind is not None:
                self.programs.setdefault(kind, []).append(file.path)
        if file.kind is not FileKind.REGULAR:
            return
        library = name.endswith(".so") or ".so." in name
        self.libraries += library
        self.executables += bool(runs) and not library
        if file.mode & 0o002:
            self._note_writable(file.path)
        if (runs and file.mode & _SET_ID) or file.capabilities:
            self.privileged.append(file)
        if file.elf is not None:
            self.elf[file.path] = file.elf

    def _note_writable(self, path: str) -> None:
        if len(self.world_writable) < MOST_LISTED:
            self.world_writable.append(path)

    def _counts(self, found: tuple[Package, ...], *, with_elf: bool) -> TreeCounts:
        return TreeCounts(
            files=self.files,
            bytes=self.bytes,
            executables=self.executables,
            libraries=self.libraries,
            setuid=sum(1 for file in self.privileged if file.mode & _SET_ID),
            shells=len(self.programs.get("shell", ())),
            interpreters=len(self.programs.get("interpreter", ())),
            compilers=len(self.programs.get("compiler", ())),
            package_managers=len(self.programs.get("package-manager", ())),
            elf=len(self.elf) if with_elf else None,
            packages=len(found),
        )


def capability_text(raw: bytes) -> str:
    """The extended attribute security.capability as text: `cap_net_raw=ep`, '' if malformed.

    struct vfs_cap_data, versions 1 to 3: include/uapi/linux/capability.h.
    """
    if len(raw) < 12:
        return ""
    (magic,) = struct.unpack_from("<I", raw)
    version = magic >> 24
    words = 1 if version == 1 else 2
    if version not in (1, 2, 3) or len(raw) < 4 + 8 * words:
        return ""
    pairs = struct.unpack_from(f"<{2 * words}I", raw, 4)
    permitted = sum(value << 32 * index for index, value in enumerate(pairs[0::2]))
    inheritable = sum(value << 32 * index for index, value in enumerate(pairs[1::2]))
    flags = ("e" if magic & 1 else "") + ("i" if inheritable else "") + ("p" if permitted else "")
    bits = permitted | inheritable
    names = [
        f"cap_{CAPABILITIES[bit].lower()}" if bit < len(CAPABILITIES) else str(bit)
        for bit in range(bits.bit_length())
        if bits >> bit & 1
    ]
    return f"{','.join(names)}={flags}" if names else ""
