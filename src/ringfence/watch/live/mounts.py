"""What is mounted where, as far as marks need it."""

from __future__ import annotations

import contextlib
import os

import msgspec

from ringfence.mountinfo import rows
from ringfence.watch.baseline.targets import Target

PSEUDO = frozenset(
    "autofs bpf cgroup cgroup2 configfs debugfs devpts efivarfs mqueue nsfs proc pstore "
    "rpc_pipefs securityfs selinuxfs sysfs tracefs".split()
)
"""File systems of the kernel's own, into which nobody puts a program."""


class Mount(msgspec.Struct, frozen=True):
    """One line: `device` is major:minor, `root` what of the file system is mounted at `point`."""

    device: str
    root: str
    point: str
    kind: str


def parse_mounts(table: bytes) -> list[Mount]:
    """The mounts of a table, names as os.fsdecode has them."""
    return [
        Mount(*map(os.fsdecode, (row.device, row.root, row.point, row.kind))) for row in rows(table)
    ]


def at(mounts: list[Mount], path: str) -> Mount | None:
    """What is mounted at `path` itself, the topmost."""
    return next((mount for mount in reversed(mounts) if mount.point == path), None)


def alone(mounts: list[Mount], path: str) -> bool:
    """Whether a whole file system is mounted at `path`, and nothing of it anywhere outside."""
    here = at(mounts, path)
    if here is None or here.root != "/" or here.kind in PSEUDO:
        return False
    below = path.rstrip("/") + "/"
    return all(
        mount.point == path or mount.point.startswith(below)
        for mount in mounts
        if mount.device == here.device
    )


def read_mounts(path: str | os.PathLike[str]) -> list[Mount]:
    """The mounts of a mountinfo file. Raises OSError."""
    with open(path, "rb") as file:
        return parse_mounts(file.read())


def apart() -> bool:
    """Whether this process has a mount namespace of its own, which the first one does not share;
    not, where that may not be seen. Asked of kthreadd, too, where init does not show itself."""
    own = os.stat("/proc/self/ns/mnt").st_ino
    for first in (1, 2):
        with contextlib.suppress(OSError):
            return os.stat(f"/proc/{first}/ns/mnt").st_ino != own
    return False


def own_filesystem(target: Target) -> bool:
    """Whether a target's root is a file system that nothing but this target has.

    Seen from inside a container, the host's own file system can look like that.
    """
    mounts = read_mounts(target.mountinfo)
    if target.kind not in ("container", "process"):
        return alone(mounts, os.path.realpath(target.root))
    here = at(mounts, "/")
    if here is None or not alone(mounts, "/"):
        return False
    elsewhere = any(mount.device == here.device for mount in read_mounts("/proc/self/mountinfo"))
    return here.kind == "overlay" or not elsewhere


class Table(msgspec.Struct, frozen=True):
    """Mounts at one moment: `text` is a mountinfo file, `below` what is mounted below a target's
    root, as (mount id, device, what of it, path from that root), each as the table has it."""

    text: bytes
    below: tuple[tuple[int, bytes, bytes, bytes], ...] = ()

    @property
    def paths(self) -> frozenset[bytes]:
        """Paths below the root at which something is mounted."""
        return frozenset(path for *_, path in self.below)

    def since(self, before: Table) -> list[tuple[bytes, str]]:
        """What happened at which path: `unmount`, and then `mount`. Several mounts may be at one
        path, on top of one another."""
        former, present = set(before.below), set(self.below)
        gone = [(row[3], "unmount") for row in before.below if row not in present]
        return gone + [(row[3], "mount") for row in self.below if row not in former]


def table_of(text: bytes, root: bytes) -> Table:
    """The table `text` for a target whose root is at `root` in it."""
    prefix = root.rstrip(b"/") + b"/"
    return Table(text, tuple(
        (row.number, row.device, row.root, row.point[len(prefix) :])
        for row in rows(text)
        if row.point.startswith(prefix) and row.point != prefix
    ))  # fmt: skip


def mounted(target: Target) -> Table:
    """The mounts of a target now; none where its table cannot be read any more."""
    try:
        text = target.mountinfo.read_bytes()
    except OSError:
        text = b""
    return table_of(text, target.mounted_at())
