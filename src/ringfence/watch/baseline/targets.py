"""What a person may take a baseline of, and how its files are reached."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ringfence.errors import InputError, UsageError
from ringfence.mountinfo import Row, rows
from ringfence.untrusted import check_path
from ringfence.watch.baseline.entry import joined
from ringfence.watch.baseline.owners import Owners, owners_of
from ringfence.watch.baseline.rest import own_clock
from ringfence.watch.baseline.walk import mounts_below

if TYPE_CHECKING:
    from ringfence.collect.files.streams import Expanded, Stretch

KINDS = ("directory", "host", "container", "process", "image", "archive")
BLIND = ("links", "ctime", "inode", "mount")
"""What an archive cannot tell."""
HOST = ("bin", "boot", "etc", "lib", "lib32", "lib64", "libx32", "opt", "root", "sbin", "srv",
        "usr", "var")  # fmt: skip
"""What of a host is looked at unless --only says otherwise: not /proc, /sys, /dev, /run, /tmp and
people's homes."""


class Target(msgspec.Struct, frozen=True):
    """A target: a live tree below `root`, seen in the mount table `mountinfo`, or an archive.

    `only` are selected paths below the root; `blind` the attributes that it cannot tell.
    """

    kind: str
    name: str
    root: Path
    mountinfo: Path = Path("/proc/self/mountinfo")
    only: tuple[bytes, ...] = ()
    blind: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        """Whether it is a tree of files, and not an archive."""
        return self.kind not in ("image", "archive")

    def mounts(self) -> frozenset[bytes]:
        """Paths below the root at which something is mounted."""
        return mounts_below(self.mount_table(), self.mounted_at())

    def mounted_at(self) -> bytes:
        """The root's path in `mountinfo`."""
        inside = "/" if self.kind in ("container", "process") else os.path.realpath(self.root)
        return os.fsencode(inside)

    def own_clock(self) -> frozenset[int]:
        """Devices of the file systems that are mounted there and go by this kernel's clock."""
        return own_clock(self.mount_table())

    def mount_table(self) -> list[Row]:
        """Every mount that `mountinfo` tells of, none where it cannot be read."""
        try:
            return rows(self.mountinfo.read_bytes())
        except OSError:
            return []

    def owners(self) -> Owners | None:
        """The user namespace whose owners count, None where they are this host's."""
        if self.kind not in ("container", "process"):
            return None
        try:
            return owners_of(self.root.parent)
        except OSError:
            return None  # it has ended: its files cannot be looked at, either

    def layers(self) -> Iterator[Stretch | Expanded]:
        """The layers of an archive, the lowest first. Raises InputError."""
        from ringfence.collect.files.image import open_image
        from ringfence.collect.files.streams import expanded, whole_file

        if self.kind == "image":
            yield from open_image(self.root).layers()
        else:
            yield expanded(whole_file(self.root))

    def inside(self, path: Path) -> bytes | None:
        """Where `path` of this host lies below the root of a live tree, None where it does not."""
        if self.kind not in ("directory", "host"):
            return None
        folder = os.path.realpath(path.parent)
        place = os.path.relpath(folder, os.path.realpath(self.root))
        if place == ".." or place.startswith("../"):
            return None
        return joined(b"" if place == "." else os.fsencode(place), os.fsencode(path.name))


def find_target(words: tuple[str, ...], kind: str = "", only: tuple[str, ...] = ()) -> Target:
    """The target that `words` name; several are folders of this host.

    Raises UsageError and InputError.
    """
    if not words or not all(words) or any("\0" in word for word in words):
        raise UsageError("no target", remedy="ringfence watch init --help lists them")
    for word in words:
        check_path(word)
    selected = tuple(os.fsencode(path) for path in only)
    if len(words) > 1:
        if selected or kind not in ("", "host"):
            raise UsageError("several targets are paths of this host", remedy="leave out --only")
        paths = [os.path.abspath(word) for word in words]
        return Target(
            "host", _name(" ".join(paths)), Path("/"), only=tuple(map(os.fsencode, paths))
        )
    return _one(words[0], kind or _kind(words[0]), selected)


def check_selection(target: Target) -> None:
    """Raises InputError when a path that a person selected is not there."""
    if target.live and target.name != "host":
        for path in target.only:
            place = os.path.join(os.fsencode(target.root), path.strip(b"/"))
            if not os.path.lexists(place):
                raise InputError("there is no such file", where=os.fsdecode(place))


def _kind(word: str) -> str:
    path = Path(word)
    if word == "host":
        return "host"
    if os.path.isdir(path):
        layout = any(os.path.isfile(path / name) for name in ("oci-layout", "manifest.json"))
        return "image" if layout else "directory"
    if os.path.exists(path):
        from ringfence.collect.files.image import sniff

        found = sniff(path)
        if found is None:
            raise InputError("is neither an image nor a tar archive", where=word)
        return "image" if found == "image" else "archive"
    if "/" in word:
        raise InputError("there is no such file", where=word)
    from ringfence.collect.container.running import is_running
    from ringfence.collect.process.procfs import is_pid

    return "process" if is_pid(word) and not is_running(word) else "container"


def _one(word: str, kind: str, only: tuple[bytes, ...]) -> Target:
    if kind in ("container", "process"):
        from ringfence.collect.container.running import find_container

        pid = find_container(word).pid if kind == "container" else _pid(word)
        place = Path(f"/proc/{pid}")
        return Target(kind, word, place / "root", place / "mountinfo", only)
    if kind in ("image", "archive"):
        return Target(kind, _name(word), Path(word), only=only, blind=BLIND)
    if kind == "host":
        return Target(kind, word, Path("/"), only=only or tuple(map(os.fsencode, HOST)))
    return Target(kind, _name(os.path.abspath(word)), Path(word), only=only)


def _pid(word: str) -> int:
    from ringfence.collect.process.procfs import is_pid

    if not is_pid(word) or not os.path.isdir(f"/proc/{word}/root"):
        raise InputError("there is no such process, or its files may not be seen", where=word)
    return int(word)


def _name(text: str) -> str:
    """As a report can hold it, which is UTF-8."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
