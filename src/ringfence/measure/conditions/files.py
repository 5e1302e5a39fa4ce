"""Conditions that files decide: paths in view, mounts, programs present, the program's own code."""

from __future__ import annotations

import stat

import msgspec

from ringfence import acl
from ringfence.measure.conditions.host_mounts import host_mount, out_of_view
from ringfence.measure.conditions.process import over
from ringfence.measure.conditions.scene import (
    Foothold,
    Scene,
    closed,
    noted,
    opened,
    over_system,
    unknown,
    widest,
)
from ringfence.model.deployment import Condition
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.files import Elf, Tree
from ringfence.model.mounts import KERNEL, covering, honours_setuid
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import Mount, PathFact

_BIT = {"read": 4, "write": 2, "connect": 2, "execute": 1}


def path(subject: str, scene: Scene, level: Level) -> Condition:
    """Whether a path of the list exists in the workload's view and may be used as it asks."""
    access = scene.knowledge.paths[subject].access

    def one(place: Foothold) -> Condition:
        pid = place.process.pid
        source = place.process.mounts.evidence.source if pid is None else f"/proc/{pid}/root"
        if not place.process.paths_seen:
            return unknown(source, "its file system could not be looked at")
        found = [fact for fact in place.process.paths if fact.id == subject]
        user = place if scene.facts.container else _over_files(place)
        if found:
            seen = widest([_usable(fact, access, user) for fact in found])
        else:
            seen = closed(Evidence(_grade(place), source, f"{subject}: no such path in view"))
        # Of a host itself all of it is in somebody's view: there is nothing beyond.
        if seen.state is State.CLOSED and scene.facts.container:
            return out_of_view(place) or seen
        return seen

    return over(scene, level, f"path:{subject}", one)


def _over_files(place: Foothold) -> Foothold:
    """The foothold with the capabilities that hold over the system's files: those over a user
    namespace of its own hold over files of the users that are mapped into it alone."""
    if place.supposed or place.capabilities is None or over_system(place.process):
        return place
    return msgspec.structs.replace(place, capabilities=frozenset())


def _grade(place: Foothold) -> Grade:
    return Grade.OBSERVED if place.process.pid is not None else Grade.DECLARED


def _usable(fact: PathFact, access: str, place: Foothold) -> Condition:
    """Mode, owner, ACL, capabilities, read-only mounts and the device cgroup, in the kernel's
    order."""
    shown = f"{fact.path} {stat.filemode(fact.mode)} {fact.uid}:{fact.gid}"
    evidence = noted(fact.evidence, f"{shown}, ACL {acl.text(fact.acl)}" if fact.acl else shown)
    if fact.device_allowed is False:
        return closed(noted(evidence, f"{fact.path}: the device cgroup forbids it"))
    if fact.read_only and access == "write" and fact.kind != "device":
        return closed(noted(evidence, f"{evidence.detail}, mounted read-only"))
    if place.uid is None and place.capabilities is None:
        return unknown(evidence.source, f"{evidence.detail}: its user is not known")
    permitted = _permitted(fact, _BIT[access], place)
    if not permitted and fact.acl is None:
        return unknown(evidence.source, f"{evidence.detail}: its ACL could not be read")
    words = f"{evidence.detail}: {access} {'permitted' if permitted else 'refused'} to {place.note}"
    return opened(noted(evidence, words)) if permitted else closed(noted(evidence, words))


def _permitted(fact: PathFact, bit: int, place: Foothold) -> bool:
    capabilities = place.capabilities or frozenset()
    if "CAP_DAC_OVERRIDE" in capabilities and place.uid is not None:
        return True
    if "CAP_DAC_READ_SEARCH" in capabilities and bit == _BIT["read"]:
        return True
    if fact.acl:
        gids = place.groups if place.gid is None else place.groups | {place.gid}
        return acl.permits(fact.acl, fact.uid, fact.gid, place.uid, gids, bit)
    if place.uid == fact.uid:
        return bool(fact.mode >> 6 & bit)
    if place.gid == fact.gid or fact.gid in place.groups:
        return bool(fact.mode >> 3 & bit)
    return bool(fact.mode & bit)


def mount(subject: str, scene: Scene, level: Level) -> Condition:
    """Mount options, and host paths that are mounted in."""

    def one(place: Foothold) -> Condition:
        seen = place.process.mounts
        if seen.value is None:
            return unknown(seen.evidence.source, seen.evidence.detail)
        if subject == "suid":
            return _suid(seen.value, seen.evidence, scene.facts.tree)
        special = {
            "writable-root": _writable_root,
            "executable-writable": _executable_writable,
        }
        if subject in special:
            return special[subject](seen.value, seen.evidence)
        return host_mount(subject, place, scene)

    return over(scene, level, f"mount:{subject}", one)


def _root(mounts: tuple[Mount, ...]) -> Mount | None:
    """The mount that the root directory is on."""
    return covering(mounts, "/")


def _writable_root(mounts: tuple[Mount, ...], evidence: Evidence) -> Condition:
    root = _root(mounts)
    if root is None:
        return unknown(evidence.source, "no mount at /")
    if "ro" in root.options:
        return closed(noted(evidence, "/ is mounted ro"))
    return opened(noted(evidence, "/ is mounted rw"))


def _suid(mounts: tuple[Mount, ...], evidence: Evidence, tree: Tree | None) -> Condition:
    """Whether a setuid program takes effect: where its mount does not say nosuid. Where none was
    found in a tree that was read whole, any mount decides that could hold one."""
    found = tree.privileged if tree is not None else ()
    lie = [covering(mounts, f"/{file.path}") for file in found]
    places = list(dict.fromkeys(item for item in lie if item is not None))
    what = "mount with setuid programs"
    if tree is None or not tree.complete or not places:
        places += [item for item in mounts if not item.hidden and item.fstype not in KERNEL]
        what = "mount"
    for item in places:
        if honours_setuid(item):
            return opened(noted(evidence, f"{item.path} honours setuid"))
    if not places:
        return unknown(evidence.source, "no mount that programs lie on")
    if len(places) == 1:
        return closed(noted(evidence, f"{places[0].path} is mounted nosuid or noexec"))
    return closed(noted(evidence, f"each {what} is nosuid or noexec"))


def _executable_writable(mounts: tuple[Mount, ...], evidence: Evidence) -> Condition:
    for item in mounts:
        if item.hidden or item.fstype in KERNEL:
            continue
        if not {"ro", "noexec"} & item.options:
            return opened(noted(evidence, f"{item.path} is writable and not noexec"))
    return closed(noted(evidence, "every writable mount is noexec"))


def file(subject: str, scene: Scene, level: Level) -> Condition:
    """Programs of a kind in the workload's file tree."""
    tree = scene.facts.tree
    if tree is None:
        return unknown(f"file:{subject}", "the file tree was not read")
    found: tuple[str, ...]
    if subject in ("setuid", "capabilities"):
        privileged = tree.privileged
        bits = stat.S_ISUID | stat.S_ISGID
        found = tuple(
            item.path
            for item in privileged
            if (bool(item.capabilities) if subject == "capabilities" else bool(item.mode & bits))
        )
    elif subject == "world-writable":
        found = tree.world_writable
    else:
        found = tree.programs.get(subject, ())
    if found:
        return opened(noted(tree.evidence, f"{len(found)} {subject}: {', '.join(found[:3])}"))
    if not tree.complete:
        return unknown(tree.evidence.source, "the file tree was read in part")
    return closed(noted(tree.evidence, f"{subject}: none"))


_LIVE = frozenset({"writable-executable", "executable-stack"})
"""Of a program what it may change as it runs."""


def code(subject: str, scene: Scene, level: Level) -> Condition:
    """Protections of the program that handles the bytes, by their absence."""

    def one(place: Foothold) -> Condition:
        memory = place.process.memory.value
        if memory is not None and subject == "writable-executable":
            count = memory.writable_executable
            evidence = noted(memory.evidence, f"{count} mapping(s) writable and executable")
            return opened(evidence) if count else closed(evidence)
        if memory is not None and subject == "executable-stack":
            evidence = noted(memory.evidence, "live stack")
            return opened(evidence) if memory.executable_stack else closed(evidence)
        image = place.process.image
        if image.value is None:
            return unknown(image.evidence.source, image.evidence.detail)
        found = from_elf(subject, image.value, image.evidence)
        live = place.process.pid is not None and subject in _LIVE
        if live and found.state is State.CLOSED:
            # Its headers say how it started, its maps what it has made of that.
            return unknown(
                place.process.memory.evidence.source, place.process.memory.evidence.detail
            )
        return found

    if not scene.facts.processes:
        return unknown(f"code:{subject}", "the program that serves is not known")
    return over(scene, level, f"code:{subject}", one)


def from_elf(subject: str, elf: Elf, evidence: Evidence) -> Condition:
    """A protection as the executable's headers show it."""
    weak = {
        "executable-stack": not elf.nx,
        "writable-executable": elf.writable_executable,
        "fixed-address": elf.kind == "executable",
        "no-canary": not elf.canary,
        "no-relro": elf.relro != "full",
        "no-fortify": not elf.fortify,
    }
    if subject not in weak:
        return unknown(evidence.source, "the headers do not say")
    detail = noted(evidence, f"{subject}: {'yes' if weak[subject] else 'no'}")
    return opened(detail) if weak[subject] else closed(detail)
