"""Paths of the host that are mounted into a container, told by the file system's number and by
what of the file system a mount shows: its name inside says nothing."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from ringfence.knowledge.records import HostMount
from ringfence.knowledge.vocabulary import READABLE
from ringfence.measure.conditions.scene import (
    Foothold,
    Scene,
    closed,
    namespace_shared,
    noted,
    opened,
    unknown,
)
from ringfence.model.deployment import Condition
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.mounts import below, covering
from ringfence.model.need import State
from ringfence.model.process import Mount, Outside

_KERNEL = {"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs"}
_OWN = frozenset({"/proc", "/sys"})
"""Where each container has one of its own."""

ENTERS = frozenset({"CAP_SYS_ADMIN", "CAP_SYS_CHROOT"})
"""What it takes to enter a mount namespace, over one's own user namespace (setns(2))."""

ALL_BELOW = "/**"


def host_mount(subject: str, place: Foothold, scene: Scene) -> Condition:
    """Whether a path of `mounts.toml` is mounted in: writable, or at all for `ID.readable`."""
    process = place.process
    mounts, evidence = process.mounts.value or (), process.mounts.evidence
    if not scene.facts.container:
        return closed(noted(evidence, "no container: nothing is mounted in"))
    ways = [way for item in process.outside if (way := _way_out(item, place)) is not None]
    leading = next((way for way in ways if way.state is State.OPEN), None)
    if leading is not None:
        return leading
    shown = _mounted(subject, place, scene)
    if shown is not None:
        return shown
    host = scene.facts.host
    if any(item.device for item in mounts) and not (host is not None and host.mounts):
        return unknown("/proc/self/mountinfo", "this host's own mounts could not be read")
    if ways:
        return ways[0]
    if not process.outside_seen:
        return unknown(evidence.source, "not all of its open directories could be looked at")
    return closed(noted(evidence, f"{subject}: no such mount"))


def out_of_view(place: Foothold) -> Condition | None:
    """Unknown where a process in a container gets at files that no path of its own leads to, and
    that were not looked for; None where it does not."""
    for item in place.process.outside:
        if item.under:
            return unknown(item.via, "leads under another mount, where nothing was looked for")
        if _way_out(item, place) is not None:
            where = (
                "into another mount namespace" if item.namespace else "out of its root directory"
            )
            return unknown(item.via, f"leads {where}, where nothing was looked for")
    mounts = place.process.mounts
    for mount in mounts.value or ():
        # What autofs has mounted lies over it, and all that it holds is where to do so.
        holds = mount.path != "/" and mount.fstype != "autofs"
        if mount.hidden and holds and may_unmount(place):
            detail = (
                f"what {place.note} may unmount hides {mount.path}, where nothing was looked for"
            )
            return unknown(mounts.evidence.source, detail)
    return None


def _way_out(item: Outside, place: Foothold) -> Condition | None:
    """Where a directory or a mount namespace that is held open leads; None for nowhere but to
    mounts of the process's own, or where it may not be entered."""
    if item.namespace:
        return _entered(item, place)
    if item.under:
        return None
    if not item.host:
        return unknown(item.via, "leads out of its root directory")
    detail = "leads out of its root directory, to the host's"
    return opened(Evidence(Grade.OBSERVED, item.via, detail))


def _entered(item: Outside, place: Foothold) -> Condition | None:
    """What setns(2) with a descriptor of a mount namespace gives: CAP_SYS_ADMIN and CAP_SYS_CHROOT
    over one's own user namespace are asked for, and CAP_SYS_ADMIN over that of the other."""
    if place.capabilities is None:
        return unknown(item.via, "is another mount namespace")
    if not place.capabilities >= ENTERS:
        return None
    first = namespace_shared(place.process, "user")
    if not item.host:
        return unknown(item.via, f"is another mount namespace, and {place.note} may enter it")
    if first.value is None:
        return unknown(item.via, "is the host's mount namespace")
    if not first.value:
        return None
    detail = f"is the host's mount namespace, and {place.note} may enter it"
    return opened(Evidence(Grade.OBSERVED, item.via, detail))


def _mounted(subject: str, place: Foothold, scene: Scene) -> Condition | None:
    """Which mount shows a path of the host, and how what lies under another one is reached."""
    mounts, evidence = place.process.mounts.value or (), place.process.mounts.evidence
    wanted = scene.knowledge.mounts[subject.removesuffix(READABLE)]
    held = {number: item.via for item in place.process.outside for number in item.under}
    covered: Evidence | None = None
    for item in mounts:
        if "ro" in item.options and not subject.endswith(READABLE):
            continue
        for path, in_view in _shows(item, wanted, mounts, scene):
            shown = _shown(evidence, item, path)
            if in_view:
                return opened(shown)
            if item.number in held:
                detail = f"{shown.detail}, under another mount: {held[item.number]} leads there"
                return opened(noted(evidence, detail))
            covered = covered or shown
    if covered is None or (place.capabilities is not None and not may_unmount(place)):
        return None
    under = f"{covered.detail}, under another mount"
    if place.capabilities is None:
        return unknown(evidence.source, f"{under}: whether it may unmount that is not known")
    return opened(noted(evidence, f"{under}, which {place.note} may unmount"))


def may_unmount(place: Foothold) -> bool:
    """Whether it may unmount what lies over another mount (umount(2))."""
    return "CAP_SYS_ADMIN" in (place.capabilities or ())


def _shown(evidence: Evidence, item: Mount, named: str) -> Evidence:
    mode = "read-only" if "ro" in item.options else "writable"
    device = f" ({item.root} of device {item.device})" if item.device else ""
    return noted(evidence, f"{named} of the host at {item.path}, {mode}{device}")


def _shows(
    item: Mount, wanted: HostMount, mounts: tuple[Mount, ...], scene: Scene
) -> Iterator[tuple[str, bool]]:
    """The paths of the host that matter and that the mount holds, and whether a path of the
    process's leads to each."""
    host = scene.facts.host
    for path in wanted.paths:
        if path in _KERNEL:
            if item.fstype == _KERNEL[path] and item.path not in _OWN:
                yield path, _in_view(item, "", mounts)
            if not _declared(item):
                continue
        place = _place(path, item, host.mounts if host is not None else ())
        if place is None:
            continue
        held = below(place, item.root)
        if held is not None:
            if held == "" or host is None or path not in host.absent:
                yield path, _in_view(item, held, mounts)
            continue
        rest = below(item.root, place)
        # What lies below and is the whole root of the container is its own file tree.
        if rest and item.path != "/" and _matters(path + rest, wanted):
            yield path + rest, _in_view(item, "", mounts)


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


def _in_view(item: Mount, held: str, mounts: tuple[Mount, ...]) -> bool:
    """Whether what a mount holds is not under another mount."""
    if item.hidden:
        # What lies over the root directory itself is still entered, by `/..`.
        return item.path == "/"
    return covering(mounts, item.path.rstrip("/") + held or "/") is item


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
