"""Raw facts of a file tree: a directory, a tar archive or the merged layers of an image."""

from __future__ import annotations

import enum

import msgspec

from ringfence.acl import Entry
from ringfence.model.evidence import Evidence, Unseen


class FileKind(enum.IntEnum):
    """Type of a file, as few as the measure needs."""

    REGULAR = 0
    DIRECTORY = 1
    SYMLINK = 2
    DEVICE = 3
    FIFO = 4
    SOCKET = 5


class Elf(msgspec.Struct, frozen=True):
    """What an ELF file's own headers say of its protections.

    `kind` is `executable` (fixed address), `pie`, `static-pie`, `shared`, `relocatable` or
    `core`. `relro` is `none`, `partial` or `full`. `nx` is False when the stack is executable
    (no PT_GNU_STACK counts as executable where the machine's default says so).
    `writable_executable` tells of a segment with both rights. `canary` and `fortify` tell of
    imports of `__stack_chk_fail` and of `__*_chk` functions: their absence in a file that needs
    neither says nothing. `problem` names what in the file makes no sense, empty if sound.
    """

    machine: str
    bits: int
    kind: str
    nx: bool
    relro: str
    canary: bool
    fortify: bool
    writable_executable: bool
    static: bool
    interpreter: str
    needed: tuple[str, ...]
    problem: str = ""


class File(msgspec.Struct, frozen=True, gc=False):
    """One file of a tree. `path` is relative to the root, with no leading slash.

    `size` in bytes (0 for all but regular files), `capabilities` as text like
    `cap_net_raw=ep`, `target` of a symlink, `elf` None for all that is not ELF.
    """

    path: str
    kind: FileKind
    mode: int
    uid: int
    gid: int
    size: int
    target: str = ""
    capabilities: str = ""
    elf: Elf | None = None


class Package(msgspec.Struct, frozen=True):
    """An installed package, from the database named in `origin`. `purl` is a package URL."""

    name: str
    version: str
    kind: str
    purl: str
    origin: str


class TreeCounts(msgspec.Struct, frozen=True):
    """The one-dimensional counts. `bytes` counts a hard-linked file once. None: not looked at."""

    files: int | None
    bytes: int | None
    executables: int
    libraries: int | None
    setuid: int
    shells: int
    interpreters: int
    compilers: int
    package_managers: int
    elf: int | None
    packages: int | None


class Tree(msgspec.Struct, frozen=True):
    """A file tree as far as the measure needs it.

    `privileged` are setuid, setgid and file-capability programs; `programs` maps a class
    (`shell`, `interpreter`, `compiler`, `package-manager`, `network-tool`) to the paths found;
    `elf` maps the path of each ELF file to its facts; `world_writable` are regular files and
    directories (without the sticky bit) that anyone may write. `complete` is False when a limit
    ended the reading, or files could not be read: then what was not found may be there still,
    and the counts are lower bounds.
    """

    counts: TreeCounts
    privileged: tuple[File, ...]
    programs: dict[str, tuple[str, ...]]
    elf: dict[str, Elf]
    packages: tuple[Package, ...]
    world_writable: tuple[str, ...]
    evidence: Evidence
    complete: bool = True
    unseen: tuple[Unseen, ...] = ()


class Step(msgspec.Struct, frozen=True):
    """A folder on the way to a file, or the file itself: `mode`, `uid`, `gid`, `device` and `links`
    (its names) as in stat(2), `acl` the entries of its ACL, none without one, None if they could
    not be read."""

    mode: int
    uid: int
    gid: int
    device: int = 0
    links: int = 1
    acl: tuple[Entry, ...] | None = ()


class SudoRules(msgspec.Struct, frozen=True):
    """Whom sudo's rules name beside root: users and groups by their numbers, or everybody."""

    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()
    everyone: bool = False

    @property
    def nobody(self) -> bool:
        """Whether they name nobody."""
        return not (self.uids or self.gids or self.everyone)
