"""Where a process sees paths of the host under other names: by mounts that show the same part of
the same file system as one of the host's own. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator

import msgspec

from ringfence.knowledge.records import PathEntry
from ringfence.model.mounts import below, covering
from ringfence.model.process import Mount

Shown = tuple[Mount, str, str]
"""A mount of the host's, a path on it, and where the process sees that."""


def elsewhere(
    entries: Iterable[PathEntry], mounts: tuple[Mount, ...], host: tuple[Mount, ...]
) -> tuple[PathEntry, ...]:
    """The entries with the names that their paths have by `mounts`, the process's own, where these
    are not the ones that the `host` itself has them by; entries without such names are left out."""
    places = tuple(_shown(mounts, host))
    found = []
    for entry in entries:
        names = (_renamed(glob, place, host) for glob in entry.globs for place in places)
        globs = tuple(dict.fromkeys(name for name in names if name and name not in entry.globs))
        if globs:
            found.append(msgspec.structs.replace(entry, globs=globs))
    return tuple(found)


def _shown(mounts: tuple[Mount, ...], host: tuple[Mount, ...]) -> Iterator[Shown]:
    """What of the host each mount shows. A mount of a configuration has no device."""
    roots: dict[str, dict[str, list[Mount]]] = {}
    for item in host:
        if item.device and not item.hidden:
            roots.setdefault(item.device, {}).setdefault(item.root, []).append(item)
    for item in mounts:
        if item.hidden or item.device not in roots:
            continue
        known = roots[item.device]
        for root in _upwards(item.root):
            for one in known.get(root, ()):
                yield one, one.path.rstrip("/") + (below(item.root, root) or "") or "/", item.path
        for root in _topmost(known):
            rest = below(root, item.root)
            if rest:
                yield from ((one, one.path, item.path.rstrip("/") + rest) for one in known[root])


def _upwards(path: str) -> Iterator[str]:
    """A path, and all folders above it."""
    while path != "/":
        yield path
        path = path.rpartition("/")[0] or "/"
    yield "/"


def _topmost(roots: Iterable[str]) -> list[str]:
    """Those that lie below no other one."""
    known = frozenset(roots)
    return [root for root in known if not known & set(list(_upwards(root))[1:])]


def _renamed(glob: str, place: Shown, host: tuple[Mount, ...]) -> str:
    """The name of a pattern by a place that shows what it lies in, or it itself; '' by others, and
    where the host has another mount over it."""
    mount, path, seen = place
    names = [name for name in path.split("/") if name]
    parts = glob.strip("/").split("/")
    if len(names) > len(parts) or not all(map(fnmatch.fnmatchcase, names, parts)):
        return ""
    rest = parts[len(names) :]
    if covering(host, "/" + "/".join([*names, *rest])) is not mount:
        return ""
    return "/".join([seen.rstrip("/"), *rest]) or "/"
