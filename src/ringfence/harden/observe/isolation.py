"""Mounts of our own, and writable views of trees that stay untouched (overlayfs)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ringfence import mountinfo
from ringfence.errors import MissingError
from ringfence.run import kernel


def isolated() -> None:
    """This process gets mounts of its own: what is mounted later is seen by nobody else.

    Raises MissingError without the privilege.
    """
    if os.geteuid() != 0:
        raise MissingError(
            "hardening starts containers and traces them", remedy="run as root (sudo)"
        )
    try:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    except OSError as error:
        raise MissingError(
            f"no mounts of our own: {error.strerror}", remedy="run as root"
        ) from None


def copied(root: Path, folder: Path) -> Path:
    """A writable view of `root` in `folder`, in memory: the original is not touched (overlayfs)."""
    place = folder / "view"
    place.mkdir(parents=True)
    kernel.mount("tmpfs", str(place), "tmpfs", 0, "mode=0711")
    for name in ("upper", "work", "root"):
        (place / name).mkdir()
    status = os.stat(root)
    os.chown(place / "upper", status.st_uid, status.st_gid)
    (place / "upper").chmod(0o711)
    data = f"lowerdir={_plain(root)},upperdir={place}/upper,workdir={place}/work"
    kernel.mount("overlay", str(place / "root"), "overlay", 0, data)
    return place / "root"


def unmount_below(folder: Path) -> None:
    """Unmount everything mounted below `folder`, the last first. Raises OSError if one stays."""
    for place in reversed(_mounted(folder)):
        kernel.unmount(place)
    left = _mounted(folder)
    if left:
        raise OSError(errno.EBUSY, "is still mounted", left[0])


def _mounted(folder: Path) -> list[str]:
    """Mount points below a folder, in the order in which they were made."""
    return [place for place in _mount_points() if place.startswith(f"{folder}/")]


def is_mount_point(folder: Path) -> bool:
    """Whether something is mounted there, also of the same file system (mount --bind)."""
    return str(folder.resolve()) in _mount_points()


def _mount_points() -> list[str]:
    """In the order in which they were made."""
    table = Path("/proc/self/mountinfo").read_bytes()
    return [os.fsdecode(row.point) for row in mountinfo.rows(table)]


def _plain(root: Path) -> str:
    """A path as a mount option: overlayfs reads `,` and `:` and `\\` as its own."""
    text = str(root)
    return text.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
