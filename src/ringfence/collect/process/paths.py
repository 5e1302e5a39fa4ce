"""The knowledge base's paths as a workload sees them, through /proc/PID/root."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator

from ringfence import acl
from ringfence.knowledge.records import PathEntry
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.mounts import covering
from ringfence.model.process import Mount, PathFact

MOST_MATCHES = 64
"""Matches of one glob that are looked at: a directory full of users is still a bounded read."""

_KINDS = {
    stat.S_IFSOCK: "socket",
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFBLK: "device",
    stat.S_IFCHR: "device",
}


def path_facts(
    root: str,
    entries: Iterable[PathEntry],
    mounts: tuple[Mount, ...],
    rules: tuple[str, ...] | None,
) -> tuple[PathFact, ...]:
    """Every path of `entries` that exists below `root` and is of the entry's kind.

    Symlinks are resolved inside `root`, as the workload would, and never lead out of it. `rules`
    are the lines of a version 1 device cgroup, None where they could not be read.
    """
    found: list[PathFact] = []
    for entry in entries:
        seen: set[str] = set()
        for pattern in entry.globs:
            for path in _matches(root, pattern):
                real = resolve(root, path)
                if real is None or real in seen:
                    continue
                seen.add(real)
                fact = _fact(root, real, entry, mounts, rules)
                if fact is not None:
                    found.append(fact)
    return tuple(found)


def _fact(
    root: str,
    path: str,
    entry: PathEntry,
    mounts: tuple[Mount, ...],
    rules: tuple[str, ...] | None,
) -> PathFact | None:
    try:
        info = os.lstat(root + path)
    except OSError:
        return None
    kind = _KINDS.get(stat.S_IFMT(info.st_mode), "")
    if kind != entry.kind:
        return None
    mount = covering(mounts, path)
    allowed = _device_allowed(info, rules) if kind == "device" else None
    return PathFact(
        id=entry.id,
        path=path,
        kind=kind,
        mode=info.st_mode,
        uid=info.st_uid,
        gid=info.st_gid,
        read_only=mount is not None and "ro" in mount.options,
        evidence=Evidence(Grade.OBSERVED, root + path),
        device_allowed=allowed,
        acl=_acl(root + path),
    )


def _acl(path: str) -> tuple[acl.Entry, ...] | None:
    """The entries of a file's ACL, none where it has none, None where they could not be read."""
    try:
        return acl.entries(os.getxattr(path, acl.ATTRIBUTE, follow_symlinks=False))
    except OSError as error:
        return () if error.errno in (errno.ENODATA, errno.EOPNOTSUPP) else None


def _matches(root: str, pattern: str) -> Iterator[str]:
    """Paths below `root` that fit a pattern in which whole components may hold `*`."""
    places = [""]
    for part in pattern.strip("/").split("/"):
        grown: list[str] = []
        for place in places:
            if "*" not in part:
                grown.append(f"{place}/{part}")
                continue
            grown += [f"{place}/{name}" for name in _listed(root, place) if _fits(name, part)]
        places = grown[:MOST_MATCHES]
    return iter(places)


def _listed(root: str, place: str) -> list[str]:
    real = resolve(root, place) if place else "/"
    try:
        return sorted(os.listdir(root + real)) if real is not None else []
    except OSError:
        return []


def _fits(name: str, pattern: str) -> bool:
    import fnmatch  # only globs with a star get here

    return fnmatch.fnmatchcase(name, pattern)


def resolve(root: str, path: str) -> str | None:
    """`path` with every symlink followed inside `root`; None when it loops or does not exist.

    /proc/PID/root alone does not confine an absolute symlink: the kernel resolves it from the
    reader's own root. So each component is looked at here.
    """
    parts = path.strip("/").split("/")
    done: list[str] = []
    hops = 0
    while parts:
        part = parts.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        here = "/" + "/".join([*done, part])
        try:
            mode = os.lstat(root + here).st_mode
        except OSError:
            return None
        if not stat.S_ISLNK(mode):
            done.append(part)
            continue
        hops += 1
        if hops > 40:
            return None
        target = os.readlink(root + here)
        if target.startswith("/"):
            done = []
        parts = [*target.strip("/").split("/"), *parts]
    return "/" + "/".join(done)


def _device_allowed(info: os.stat_result, rules: tuple[str, ...] | None) -> bool | None:
    if rules is None:
        return None
    letter = "b" if stat.S_ISBLK(info.st_mode) else "c"
    major, minor = os.major(info.st_rdev), os.minor(info.st_rdev)
    for rule in rules:
        words = rule.split()
        if len(words) != 3 or words[0] not in ("a", letter) or not {"r", "w"} & set(words[2]):
            continue
        wanted_major, _, wanted_minor = words[1].partition(":")
        if wanted_major in ("*", str(major)) and wanted_minor in ("*", str(minor)):
            return True
    return False
