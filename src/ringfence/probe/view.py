"""What is known of the workload from outside, for probes that need a place or a neighbour to try.

Nothing here decides a result: what is listed is tried inside.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import struct
import subprocess
from pathlib import Path

import msgspec

from ringfence.collect.process import procfs
from ringfence.collect.process.inside import in_network
from ringfence.collect.process.namespaces import inode_of
from ringfence.collect.process.paths import resolve
from ringfence.collect.seccomp.live import FilterUnreadable, read_programs
from ringfence.model.facts import Facts
from ringfence.model.mounts import KERNEL
from ringfence.model.process import PathFact, Process
from ringfence.probe.answered import as_answered
from ringfence.probe.folders import Folders
from ringfence.probe.routes import Destination, destinations
from ringfence.probe.ruleset import Ruleset
from ringfence.probe.services import Service, services

MOST_OTHERS = 256
"""Processes that are tried."""
MOST_PLACES = 24
STRANGER = 54321
"""Nobody's number, on most systems."""
PLACES = ("/dev/shm", "/tmp", "/var/tmp", "/run", "/run/lock")  # noqa: S108 - the workload's
PROGRAM_FOLDERS = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/libexec",
                   "/usr/lib/openssh", "/usr/lib/dbus-1.0")  # fmt: skip
INTERPRETERS = {
    "sh": ("/bin/sh", "/bin/dash", "/bin/ash"), "bash": ("/bin/bash",),
    "busybox": ("/bin/busybox", "/usr/bin/busybox"),
    "python": ("/usr/bin/python3", "/usr/local/bin/python3"),
    "perl": ("/usr/bin/perl",), "node": ("/usr/bin/node", "/usr/local/bin/node"),
    "ruby": ("/usr/bin/ruby",), "lua": ("/usr/bin/lua",), "php": ("/usr/bin/php",),
    "awk": ("/usr/bin/awk",), "openssl": ("/usr/bin/openssl",), "curl": ("/usr/bin/curl",),
    "gcc": ("/usr/bin/gcc",), "apt": ("/usr/bin/apt-get",),
}  # fmt: skip
MOST_ENTRIES = 20_000
SIOCGIFFLAGS, IFF_UP, IFF_LOOPBACK = 0x8913, 0x1, 0x8


class Other(msgspec.Struct, frozen=True):
    """Another process that the workload can see: its number there, its user as seen here, and
    whether it belongs to the workload's own program."""

    pid: int
    uid: int
    name: str


class View(msgspec.Struct, frozen=True):
    """The workload from outside. `paths` are those of the knowledge base that are in its view,
    by entry; `places` are folders to try to write in; `others` the processes that it sees."""

    process: Process
    facts: Facts
    paths: dict[str, tuple[PathFact, ...]]
    places: tuple[str, ...]
    folders: Folders
    """Further ones, which are sought when somebody asks."""
    others: tuple[Other, ...]
    unlisted: int
    """Processes in its view beyond those."""
    setuid: tuple[str, ...]
    interpreters: dict[str, str]
    services: tuple[Service, ...]
    """What listens on loopback in its network namespace."""
    destinations: tuple[Destination, ...]
    """Where the routes of its network namespace lead."""
    stranger: int | None
    """A user number, as the workload counts, that is not its own and means somebody there."""
    programs: tuple[bytes, ...] | None
    """Its seccomp filters; None where they were not read."""
    output: Ruleset | None
    """The rules of its network namespace for what goes out; None where they were not seen."""
    owns: bool
    """Whether descriptors and terminal are the workload's own (inject)."""

    @property
    def uid(self) -> int:
        """Its effective user, as seen here; -1 where that was not seen."""
        found = self.process.credentials.value
        return found.uid if found is not None else -1

    def holds(self, capability: str) -> bool:
        """Whether it is in the effective set."""
        found = self.process.credentials.value
        return found is not None and capability in found.effective

    def private(self, kind: str) -> bool:
        """Whether it has a namespace of this kind of its own."""
        return any(space.kind == kind and space.shared.value is False
                   for space in self.process.namespaces)  # fmt: skip


def view_of(process: Process, facts: Facts, owns: bool) -> View:
    """The view of one process of a live target."""
    pid = process.pid or os.getpid()
    root = f"/proc/{pid}/root"
    paths: dict[str, tuple[PathFact, ...]] = {}
    for fact in process.paths:
        paths[fact.id] = (*paths.get(fact.id, ()), fact)
    others = _others(pid)
    found = process.credentials.value
    listed = foremost(others, found.uid if found is not None else -1)
    return View(
        process=process,
        facts=facts,
        paths=paths,
        places=_places(process),
        folders=Folders(process, root),
        others=listed,
        unlisted=len(others) - len(listed),
        setuid=_setuid(root),
        interpreters=_interpreters(root),
        services=services(pid),
        destinations=destinations(pid),
        stranger=_stranger(pid),
        programs=_programs(process, pid),
        output=_output(pid),
        owns=owns,
    )


def _places(process: Process) -> tuple[str, ...]:
    """The usual ones, and every mount that is writable."""
    mounts = process.mounts.value or ()
    found = dict.fromkeys(PLACES)
    for item in mounts:
        if "ro" not in item.options and item.fstype not in KERNEL:
            found[item.path] = None
    with contextlib.suppress(OSError):
        found[os.readlink(f"/proc/{process.pid}/cwd")] = None
    return tuple(found)[:MOST_PLACES]


def _others(pid: int) -> tuple[Other, ...]:
    """Processes of its PID namespace, and of those below it, without ourselves and kin."""
    space, ours = inode_of(pid, "pid"), _kin()
    found = []
    for other in map(procfs.living, procfs.pids()):
        if other == pid or other in ours:
            continue
        try:
            fields = procfs.fields(procfs.read(other, "status").decode("utf-8", "replace"))
        except (OSError, procfs.Vanished):
            continue
        if "VmSize" not in fields or fields["State"][:1] in "ZX":
            continue  # a thread of the kernel, or one that has ended
        inside = int(fields["NSpid"].split()[-1])
        if inode_of(other, "pid") == space:
            found.append(Other(inside, int(fields["Uid"].split()[1]), fields["Name"]))
    return tuple(found)


def foremost(others: tuple[Other, ...], uid: int) -> tuple[Other, ...]:
    """The most telling ones first: one of each user, then those of the workload's own."""
    first: dict[int, Other] = {}
    for other in sorted(others, key=lambda item: item.pid):
        first.setdefault(other.uid, other)
    ordered = sorted(others, key=lambda item: (first[item.uid] is not item, item.uid != uid,
                                               item.pid))  # fmt: skip
    return tuple(ordered[:MOST_OTHERS])


def _kin() -> set[int]:
    """This process, and what it has started."""
    return {os.getpid(), *procfs.below(os.getpid())}


def _stranger(pid: int) -> int | None:
    """What the map of its user namespace has beside its own number: others are refused before any
    privilege is asked for (make_kuid in chown(2) and setresuid(2))."""
    try:
        rows = [line.split() for line in procfs.read(pid, "uid_map").decode().splitlines()]
        fields = procfs.fields(procfs.read(pid, "status").decode("utf-8", "replace"))
    except (OSError, procfs.Vanished):
        return None
    outside = int(fields["Uid"].split()[1])
    for inner, outer, count in ((int(a), int(b), int(c)) for a, b, c in rows):
        own = inner + outside - outer if outer <= outside < outer + count else -1
        for number in (STRANGER, inner + count - 2, inner, inner + 1):
            if inner <= number < inner + count and number != own:
                return number
    return None


def _programs(process: Process, pid: int) -> tuple[bytes, ...] | None:
    found = process.seccomp.value
    if found is not None and found.mode == 0:
        return ()
    with contextlib.suppress(FilterUnreadable, procfs.Vanished):
        return as_answered(pid, read_programs(pid).programs)
    return None


def _output(pid: int) -> Ruleset | None:
    """The rules of its network namespace; None where they cannot be read."""
    nft = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if nft is None or os.geteuid() != 0 or _older_rules(pid):
        return None
    command = [nft, "--json", "list", "ruleset"]

    def read() -> tuple[subprocess.CompletedProcess[bytes], tuple[str, ...]]:
        done = subprocess.run(command, capture_output=True, timeout=5, check=False)
        return done, _devices()

    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
        done, devices = in_network(pid, read)
        if done.returncode == 0:
            return Ruleset(msgspec.json.decode(done.stdout), devices)
    return None


def _older_rules(pid: int) -> bool:
    """Whether there are tables of the older interface, of which nft(8) knows nothing
    (iptables-legacy(8))."""
    for name in ("ip_tables_names", "ip6_tables_names"):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/net/{name}").read_bytes().strip():
                return True
    return False


def _devices() -> tuple[str, ...]:
    """Interfaces that are up, but for loopback (netdevice(7))."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for _, name in socket.if_nameindex():
            answer = fcntl.ioctl(handle, SIOCGIFFLAGS, struct.pack("=16sH22x", name.encode(), 0))
            if struct.unpack("=16sH22x", answer)[1] & (IFF_UP | IFF_LOOPBACK) == IFF_UP:
                found.append(name)
    return tuple(found)


def _setuid(root: str) -> tuple[str, ...]:
    """Set-user-ID programs of root's in the folders where programs are."""
    found = []
    # /bin is /usr/bin on most systems: each folder is looked through once.
    for real in dict.fromkeys(resolve(root, folder) for folder in PROGRAM_FOLDERS):
        if real is None:
            continue
        with contextlib.suppress(OSError), os.scandir(root + real) as rows:
            for count, row in enumerate(rows):
                if count > MOST_ENTRIES:
                    break
                info = row.stat(follow_symlinks=False)
                if stat.S_ISREG(info.st_mode) and info.st_mode & 0o4001 == 0o4001:
                    found.append(f"{real}/{row.name}")
    return tuple(dict.fromkeys(found))[:8]


def _interpreters(root: str) -> dict[str, str]:
    found = {}
    for name, paths in INTERPRETERS.items():
        for path in paths:
            real = resolve(root, path)
            if real is not None and os.path.isfile(root + real):
                found[name] = real
                break
    return found
