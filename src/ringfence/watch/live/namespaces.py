"""Mounts of a container, and of mount namespaces that are made within it, opened to be marked.

Whoever may make a user namespace may make a mount namespace, whose copies of the container's mounts
carry no marks of these, and new mounts in it. A mark on a file system reaches all of its mounts, so
one that nobody else has is marked as such. Of the others, those of a new namespace are marked once
a program is executed in it, which the process connector tells.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable

from ringfence.watch.baseline.opening import open_folder
from ringfence.watch.live.looks import read_stat
from ringfence.watch.live.mounts import PSEUDO, Mount, parse_mounts
from ringfence.watch.live.terms import Point

NS_GET_MNTNS_ID = 0x8008B705
"""Of include/uapi/linux/nsfs.h."""
MOST_KNOWN = 4096
GENERATIONS = 64
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Namespaces:
    """The mount namespaces of the process `target`, of those in a PID namespace of its own, and of
    all that descend from these."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._theirs = namespace(target)
        self._ours = namespace("self")
        processes = namespace(target, "pid")
        shared = processes in ("", namespace("self", "pid"))
        self._processes = None if shared else processes
        self._marked: dict[int, frozenset[Mount]] = {}

    def points(self, wanted: Callable[[Mount], bool]) -> list[Point]:
        """Those of the target's own mounts that are wanted, opened. Raises OSError."""
        return self._opened(self._target, wanted)

    def executed(self, pid: int) -> tuple[bool, list[Point]]:
        """A process has executed a program: whether that shows a namespace made within the target
        that was not known, and what of it has to be marked."""
        if namespace(pid) in ("", self._ours, self._theirs):
            return False, []
        number = _number(pid)
        known = self._marked.get(number)
        if known is None and not self.inside(pid):
            return False, []
        if known is None and len(self._marked) >= MOST_KNOWN:
            self._marked.clear()
        former = known or frozenset()
        seen: set[Mount] = set()

        def is_new(mount: Mount) -> bool:
            seen.add(mount)
            return mount not in former

        found: list[Point] = []
        with contextlib.suppress(OSError):  # it has ended
            found = self._opened(pid, is_new)
        self._marked[number] = frozenset(seen)
        return known is None, found

    def inside(self, pid: int) -> bool:
        """Whether a process is one of the target's."""
        for _ in range(GENERATIONS):
            if pid == self._target or namespace(pid, "pid") == self._processes:
                return True
            if pid <= 1:
                return False
            stat = read_stat(pid)
            pid = stat.parent if stat else 0
        return False

    def _opened(self, pid: int, wanted: Callable[[Mount], bool]) -> list[Point]:
        points: list[Point] = []
        # A descriptor of a process that has ended is of no other one, whoever has its number.
        process = os.open(f"/proc/{pid}", _FOLDER)
        try:
            mounts = parse_mounts(_read("mountinfo", process))
            root = os.open("root", _FOLDER, dir_fd=process)
        finally:
            os.close(process)
        try:
            chosen = [mount for mount in mounts if wanted(mount) and mount.kind not in PSEUDO]
            if not chosen:
                return []
            elsewhere, ours = self._elsewhere(), _mount_ids()
            for mount in chosen:
                with contextlib.suppress(OSError):
                    handle = _place(root, os.fsencode(mount.point))
                    if _mount_id(handle) in ours:  # a mark there would reach this host
                        os.close(handle)
                        continue
                    alone = mount.root == "/" and mount.device not in elsewhere
                    points.append(Point(handle, whole=alone and _is_of(handle, mount)))
        finally:
            os.close(root)
        return points

    def _elsewhere(self) -> frozenset[str]:
        """Devices of what is mounted in namespaces of processes that are not of the
        target, this one's first of all."""
        devices = _devices("self")
        done = {self._ours, self._theirs, ""}
        for name in os.listdir("/proc"):
            if name.isdecimal() and (found := namespace(name)) not in done:
                if self.inside(int(name)):
                    continue  # somebody from outside may have joined it: ask the next one
                done.add(found)
                devices |= _devices(name)
        return frozenset(devices)


def namespace(pid: int | str, kind: str = "mnt") -> str:
    """A process's namespace; '' where it is not told."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def _number(pid: int) -> int:
    """A mount namespace's number that no other one gets later (Linux 6.11); before, the one that is
    given anew once it is gone. 0: the process has ended."""
    try:
        handle = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(handle, NS_GET_MNTNS_ID, bytes(8)), sys.byteorder)
    except OSError:
        return os.fstat(handle).st_ino
    finally:
        os.close(handle)


def _devices(pid: str) -> set[str]:
    try:
        return {mount.device for mount in parse_mounts(_read(f"/proc/{pid}/mountinfo"))}
    except OSError:
        return set()


def _place(root: int, path: bytes) -> int:
    """What is at a path below a root that is somebody else's: no link there is followed."""
    folder, _, name = path.strip(b"/").rpartition(b"/")
    above = open_folder(root, folder, mounts=True)
    try:
        return os.open(name or b".", _PLACE, dir_fd=above)
    finally:
        os.close(above)


def _mount_ids() -> frozenset[bytes]:
    """The mounts of this process's namespace."""
    return frozenset(line.split(b" ", 1)[0] for line in _read("/proc/self/mountinfo").split(b"\n"))


def _mount_id(handle: int) -> bytes:
    for line in _read(f"/proc/self/fdinfo/{handle}").split(b"\n"):
        if line.startswith(b"mnt_id:"):
            return line.split()[1]
    raise OSError("no mount")


def _is_of(handle: int, mount: Mount) -> bool:
    """Whether it is the very file system of a line of the table, which may have changed since."""
    device = os.fstat(handle).st_dev
    return mount.device == f"{os.major(device)}:{os.minor(device)}"


def _read(path: str, folder: int | None = None) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(handle, "rb") as file:
        return file.read()
