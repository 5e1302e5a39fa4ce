"""Files: every path of the knowledge base that is worth something to an attacker, and the program's
own files.

Files are opened and closed again: nothing is read, written, truncated or created; a Unix socket
is connected to and closed without a byte. Opening changes no time stamp but a folder's access
time, where the mount keeps one.
"""

from __future__ import annotations

import errno
import stat
from collections import Counter
from collections.abc import Iterator

from ringfence.knowledge.loader import load
from ringfence.knowledge.records import PathEntry
from ringfence.model.mounts import covering
from ringfence.model.process import PathFact
from ringfence.probe.definition import (
    AT_FDCWD,
    Inside,
    Outcome,
    Probe,
    Seen,
    closed,
    unsupported,
)

GROUP = "files"
ENGINES = "engines"
SECRETS = "secrets"
O_RDONLY, O_WRONLY, O_RDWR, O_DIRECTORY, O_PATH = 0, 1, 2, 0o200000, 0o10000000
O_TMPFILE = 0o20000000 | O_DIRECTORY
AF_UNIX, SOCK_STREAM, SOCK_CLOEXEC, SOCK_NONBLOCK = 1, 1, 0o2000000, 0o4000
EACCESS = 0x200
TECHNIQUES = {"socket": "T1611", "device": "T1611", "directory": "T1543", "file": "T1005"}
MOST = 8
"""Paths of one entry that are tried on each mount, and libraries."""


def _entry(entry: PathEntry) -> Probe:
    def attempt(inside: Inside) -> Outcome:
        """Opens what is there as an attacker would want it, and lets go of it at once; of a folder
        it asks for a nameless file that ends with the child, or only whether it might."""
        found = inside.view.paths.get(entry.id, ())
        if not found:
            return closed("missing file", f"none of {', '.join(entry.globs[:3])}")
        outcome = None
        for fact in _chosen(inside, found):
            outcome = _used(inside, fact, entry.access)
            if outcome.seen is Seen.OPEN:
                break
        return outcome or closed("missing file")

    group = ENGINES if entry.access == "connect" else GROUP
    return Probe(
        f"file.{entry.id}", group, f"{entry.title}: {entry.access}",
        TECHNIQUES.get(entry.kind, "T1005"), attempt,
        (f"path:{entry.id}",), (f"path:{entry.id}",),
    )  # fmt: skip


def _chosen(inside: Inside, found: tuple[PathFact, ...]) -> Iterator[PathFact]:
    """The first ones on each mount: those of the workload's own must not hide the host's, which
    another mount shows."""
    mounts = inside.view.process.mounts.value or ()
    count: Counter[str] = Counter()
    for fact in found:
        mount = covering(mounts, fact.path)
        place = mount.path if mount is not None else ""
        count[place] += 1
        if count[place] <= MOST:
            yield fact


def _used(inside: Inside, fact: PathFact, access: str) -> Outcome:
    if access == "connect":
        return connect(inside, fact.path)
    if access == "execute":
        result = inside.call("faccessat2", AT_FDCWD, fact.path, 1, EACCESS, path=fact.path)
        return inside.judged(result, detail=fact.path)
    if fact.kind == "directory" and access == "write":
        return write_folder(inside, fact.path)
    flags = O_RDONLY if access == "read" else O_RDWR if fact.kind == "device" else O_WRONLY
    if fact.kind == "directory":
        flags = O_RDONLY | O_DIRECTORY
    if stat.S_ISBLK(fact.mode):
        # Closing a disk that was open for writing makes udev read its partitions again.
        result = inside.open(fact.path, O_RDONLY)
        if result >= 0 and access == "write":
            result = inside.call("faccessat2", AT_FDCWD, fact.path, 2, EACCESS, path=fact.path)
        return inside.judged(result, detail=fact.path)
    if access == "write":
        return written(inside, fact.path, flags)
    return inside.judged(inside.open(fact.path, flags), detail=fact.path)


def written(inside: Inside, path: str, flags: int = O_WRONLY) -> Outcome:
    """Opens a file for writing and writes nothing. A program that runs is busy (ETXTBSY), which
    comes after its mode is checked but before the mount is (fs/open.c, do_dentry_open): then the
    question alone is asked."""
    result = inside.open(path, flags)
    if result == -errno.ETXTBSY and inside.passes("faccessat2", AT_FDCWD, path, 2, EACCESS).passes:
        result = inside.call("faccessat2", AT_FDCWD, path, 2, EACCESS, path=path)
    return inside.judged(result, (errno.ETXTBSY, errno.EBUSY, errno.ENODEV), detail=path)


def write_folder(inside: Inside, path: str) -> Outcome:
    """Whether files can be made in a folder: a nameless one is, or the question is asked."""
    result = inside.open(path, O_TMPFILE | O_RDWR, 0o600)
    if result in (-errno.EOPNOTSUPP, -errno.EISDIR, -errno.ENOENT, -errno.EINVAL):
        result = inside.call("faccessat2", AT_FDCWD, path, 3, EACCESS, path=path)
    return inside.judged(result, detail=path)


def connect(inside: Inside, path: str) -> Outcome:
    """A Unix socket connected to, and closed without a byte."""
    kind = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK
    handle = inside.socket(AF_UNIX, kind, 0)
    if handle < 0:
        return inside.judged(handle, detail=path)
    address = AF_UNIX.to_bytes(2, "little") + path.encode()[:107] + b"\0"
    result = inside.call("connect", handle, address, len(address), path=path)
    return inside.judged(result, (errno.EAGAIN, errno.EPROTOTYPE), detail=path)


def own_program(inside: Inside) -> Outcome:
    """Opens the workload's own program for writing and writes nothing; since it runs, the kernel
    has to be asked a second time (`written`)."""
    path = inside.view.process.executable
    if not path:
        return unsupported("its program could not be seen")
    return written(inside, path)


def own_libraries(inside: Inside) -> Outcome:
    """Opens the libraries that it has loaded for writing and writes nothing."""
    memory = inside.view.process.memory.value
    program = inside.view.process.executable
    paths = [path for path in (memory.mapped if memory is not None else ()) if path != program]
    if not paths:
        return closed("missing file", "it has loaded no library")
    outcome = None
    for path in paths[:MOST]:
        outcome = written(inside, path)
        if outcome.seen is Seen.OPEN:
            break
    return outcome or closed("missing file")


def root_writable(inside: Inside) -> Outcome:
    """Asks for a nameless file in the root folder, which ends with the child."""
    return write_folder(inside, "/")


def own_configuration(inside: Inside) -> Outcome:
    """Asks whether files could be made in /etc."""
    return write_folder(inside, "/etc")


def _setting(path: str) -> Probe:
    def attempt(inside: Inside) -> Outcome:
        """Opens a setting of the kernel's for writing and writes nothing."""
        if path.startswith("/proc/self/"):
            inside.child.expose()
        return inside.judged(inside.open(path, O_WRONLY), detail=path)

    word = path.strip("/").replace("/", "-").replace("_", "-")
    return Probe(f"file.{word}", GROUP, f"Change {path}", "T1562", attempt)


PROBES = (
    *(_entry(entry) for entry in load().paths.values()),
    Probe("file.own-program", GROUP, "Write its own program", "T1554", own_program),
    Probe("file.own-libraries", GROUP, "Write its own libraries", "T1574", own_libraries),
    Probe("file.root-folder", GROUP, "Make files in the root folder", "T1105", root_writable),
    Probe("file.own-configuration", GROUP, "Make files in /etc", "T1543", own_configuration),
    *(_setting(path) for path in (
        "/proc/sys/kernel/hostname", "/proc/sys/kernel/randomize_va_space",
        "/proc/sys/net/ipv4/ip_forward", "/proc/sys/vm/overcommit_memory",
        "/proc/sys/fs/suid_dumpable", "/proc/self/oom_score_adj", "/proc/self/loginuid",
        "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state",
    )),
)  # fmt: skip
