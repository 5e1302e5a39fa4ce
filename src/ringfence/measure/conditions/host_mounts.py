"""Paths of the host that are mounted into a container, told by the file system's number and by
what of the file system a mount shows: its name inside says nothing."""

from __future__ import annotations

import fnmatch

from ringfence.knowledge.records import HostMount
from ringfence.knowledge.vocabulary import READABLE
from ringfence.measure.conditions.scene import Scene, closed, noted, opened, unknown
from ringfence.model.deployment import Condition
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.mounts import below, covering
from ringfence.model.process import Mount, Process

_KERNEL = {"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs"}
_OWN = frozenset({"/proc", "/sys"})
"""Where each container has one of its own."""

ALL_BELOW = "/**"


def host_mount(subject: str, process: Process, scene: Scene) -> Condition:
    """Whether a path of `mounts.toml` is mounted in: writable, or at all for `ID.readable`."""
    mounts, evidence = process.mounts.value or (), process.mounts.evidence
    if not scene.facts.container:
        return closed(noted(evidence, "no container: nothing is mounted in"))
    for directory in process.outside:
        if directory.host:
            detail = "leads out of its root directory, to the host's"
            return opened(Evidence(Grade.OBSERVED, directory.via, detail))
    wanted = scene.knowledge.mounts[subject.removesuffix(READABLE)]
    for item in mounts:
        writable = "ro" not in item.options
        # What lies over the root directory itself is still entered, by `/..`.
        if not (writable or subject.endswith(READABLE)) or (item.hidden and item.path != "/"):
            continue
        named = _named(item, wanted, mounts, scene)
        if named:
            return opened(_shown(evidence, item, named))
    host = scene.facts.host
    if any(item.device for item in mounts) and not (host is not None and host.mounts):
        return unknown("/proc/self/mountinfo", "this host's own mounts could not be read")
    if process.outside:
        return unknown(process.outside[0].via, "leads out of its root directory")
    if not process.outside_seen:
        return unknown(evidence.source, "not all of its open directories could be looked at")
    return closed(noted(evidence, f"{subject}: no such mount"))


def _shown(evidence: Evidence, item: Mount, named: str) -> Evidence:
    mode = "read-only" if "ro" in item.options else "writable"
    device = f" ({item.root} of device {item.device})" if item.device else ""
    return noted(evidence, f"{named} of the host at {item.path}, {mode}{device}")


def _named(item: Mount, wanted: HostMount, mounts: tuple[Mount, ...], scene: Scene) -> str:
    """The path of the host that matters and that the mount shows, '' for none."""
    host = scene.facts.host
    for path in wanted.paths:
        if path in _KERNEL:
            if item.fstype == _KERNEL[path] and item.path not in _OWN:
                return path
            if not _declared(item):
                continue
        place = _place(path, item, host.mounts if host is not None else ())
        if place is None:
            continue
        held = below(place, item.root)
        if held is not None:
            there = held == "" or host is None or path not in host.absent
            if there and _seen(item, held, mounts):
                return path
            continue
        rest = below(item.root, place)
        # What lies below and is the whole root of the container is its own file tree.
        if rest and item.path != "/" and _matters(path + rest, wanted):
            return path + rest
    return ""


def _place(path: str, item: Mount, host_mounts: tuple[Mount, ...]) -> str | None:
    """Where the host's `path` is in the mount's file system; None if it is in another one."""
    if not item.device:
        return path if _declared(item) else None
    found = covering(host_mounts, path)
    if found is None or found.device != item.device:
        return None
    return found.root.rstrip("/") + (below(path, found.path) or "") or "/"


def _declared(item: Mount) -> bool:
    """Whether a configuration binds a path of the host."""
    return not item.device and item.fstype == "bind" and item.root.startswith("/")


def _seen(item: Mount, held: str, mounts: tuple[Mount, ...]) -> bool:
    """Whether what a mount holds is not under another mount."""
    return item.hidden or covering(mounts, item.path.rstrip("/") + held or "/") is item


def _matters(path: str, wanted: HostMount) -> bool:
    return _fits(path, wanted.inside) and not _fits(path, wanted.harmless)


def _fits(path: str, patterns: tuple[str, ...]) -> bool:
    names = path.split("/")
    for pattern in patterns:
        parts = pattern.removesuffix(ALL_BELOW).split("/")
        whole = len(names) == len(parts) or (
            pattern.endswith(ALL_BELOW) and len(names) > len(parts)
        )
        # zip() ends where the pattern does: what is below goes with it.
        if whole and all(map(fnmatch.fnmatchcase, names, parts)):
            return True
    return False
