"""Conditions that the kernel decides for everybody: settings, features, protections."""

from __future__ import annotations

import re

from ringfence.measure.conditions.scene import (
    Foothold,
    Scene,
    closed,
    from_seen,
    namespace_shared,
    noted,
    opened,
    unknown,
    widest,
)
from ringfence.model.deployment import Condition
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.files import SudoRules
from ringfence.model.mounts import covering
from ringfence.model.position import Level
from ringfence.model.process import Mount, Process

_SYSCTL = re.compile(r"([a-z0-9_.-]+?)(<=|>=|==)(-?\d+)")
_POSITIVE = {
    "module-loading": "module-loading-closed",
    "kexec-permitted": "kexec-closed",
    "modules-unsigned": "module-signing",
}


def kernel(subject: str, scene: Scene, level: Level) -> Condition:
    """`shared`, and the kernel's protections by the name of their absence."""
    if subject == "shared":
        names = ", ".join(process.name for process in scene.facts.processes[:3])
        detail = f"{names}: ordinary process of this kernel"
        grade = Grade.OBSERVED if scene.facts.host is not None else Grade.DECLARED
        return opened(Evidence(grade, "/proc", detail)) if names else unknown("kernel:shared")
    if scene.facts.host is None:
        return unknown(f"kernel:{subject}", "the host was not read")
    name = _POSITIVE.get(subject, subject.removesuffix("-off"))
    protection = scene.facts.host.kernel.protections.get(name)
    if protection is None:
        return unknown(f"kernel:{subject}")
    return from_seen(protection, open_when=False)


def ring(subject: str, scene: Scene, level: Level) -> Condition:
    """Whether the application itself runs in ring 0: never, for a process of Linux."""
    if not scene.facts.processes:
        return unknown("ring:0")
    return closed(Evidence(Grade.OBSERVED, "/proc", "a process of Linux runs in ring 3"))


def sysctl(subject: str, scene: Scene, level: Level) -> Condition:
    """`NAME<=V` and the like. A setting that this kernel does not have forbids nothing."""
    match = _SYSCTL.fullmatch(subject)
    if scene.facts.host is None or match is None:
        return unknown(f"sysctl:{subject}", "the host was not read")
    name, operator, wanted = match[1], match[2], int(match[3])
    seen = scene.facts.host.kernel.settings.get(name)
    source = "/proc/sys/" + name.replace(".", "/")
    if seen is None:
        return opened(
            Evidence(Grade.OBSERVED, source, f"this kernel has no {name}: forbids nothing")
        )
    if seen.value is None or not re.fullmatch(r"-?\d+", seen.value):
        return unknown(source, seen.evidence.detail)
    value = int(seen.value)
    holds = {"<=": value <= wanted, ">=": value >= wanted, "==": value == wanted}[operator]
    evidence = noted(seen.evidence, f"{name} = {value}")
    return opened(evidence) if holds else closed(evidence)


def feature(subject: str, scene: Scene, level: Level) -> Condition:
    """Whether the kernel has the feature built in, loaded or loadable."""
    if scene.facts.host is None:
        return unknown(f"feature:{subject}", "the host was not read")
    seen = scene.facts.host.kernel.features.get(subject)
    return unknown(f"feature:{subject}") if seen is None else from_seen(seen, open_when=True)


def device(subject: str, scene: Scene, level: Level) -> Condition:
    """Whether this system, as a guest, sees a device of the kind."""
    if scene.facts.host is None:
        return unknown(f"device:{subject}", "the host was not read")
    machine = scene.facts.host.machine
    places = machine.devices.get(subject)
    if places:
        return opened(noted(machine.evidence, f"{subject}: {', '.join(places[:3])}"))
    return closed(noted(machine.evidence, f"{subject}: not seen"))


def guard(subject: str, scene: Scene, level: Level) -> Condition:
    """Host-wide mechanisms, by the name of their absence."""
    name = {"audit-mutable": "audit-immutable", "image-unsigned": "image-signed"}.get(
        subject, subject.removesuffix("-absent")
    )
    return _guard(name, f"guard:{subject}", scene)


def net(subject: str, scene: Scene, level: Level) -> Condition:
    """Default-deny filters of the network, by their absence."""
    name = {"inbound-open": "firewall-in", "outbound-open": "firewall-out"}.get(subject, subject)
    return _guard(name, f"net:{subject}", scene)


def _guard(name: str, source: str, scene: Scene) -> Condition:
    for item in scene.facts.host.guards if scene.facts.host is not None else ():
        if item.id == name:
            return from_seen(item.present, open_when=False)
    return unknown(source)


def account(subject: str, scene: Scene, level: Level) -> Condition:
    """sudo and polkit rules for the user that the service runs as."""
    users = {
        foothold.process.credentials.value.user
        for foothold in scene.user
        if foothold.process.credentials.value is not None and not foothold.supposed
    }
    if scene.facts.container and subject == "sudo-rule":
        return _sudo_inside(scene)
    if scene.facts.host is None or scene.facts.container:
        return unknown(f"account:{subject}", "accounts of the zone were not read")
    reason = subject.removesuffix("-rule")
    source = "/etc/sudoers" if reason == "sudo" else "/etc/polkit-1"
    for foothold in scene.user:
        other = _elsewhere(source, foothold.process, scene.facts.host.mounts)
        if other:
            return unknown(source, other)
    found = [
        item for item in scene.facts.host.accounts if item.reason == reason and item.name in users
    ]
    evidence = Evidence(Grade.OBSERVED, source)
    if found:
        return opened(noted(evidence, f"a rule names {found[0].name}"))
    unread = [note for note in scene.facts.host.unseen if reason in note.what]
    if unread:
        return unknown(evidence.source, unread[0].why)
    return closed(noted(evidence, f"no rule names {', '.join(sorted(users)) or 'such a user'}"))


def _sudo_inside(scene: Scene) -> Condition:
    """Whether the container's own sudo rules name a user of the service: of one that is not known,
    whether they name anybody."""
    seen = scene.facts.sudo
    if seen is None or not scene.user:
        return unknown("account:sudo-rule", "accounts of the zone were not read")
    if seen.value is None:
        return unknown(seen.evidence.source, seen.evidence.detail)
    mounts = scene.facts.processes[0].mounts.value
    for foothold in scene.user:
        other = _elsewhere("/etc/sudoers", foothold.process, mounts or ())
        if other:
            return unknown(seen.evidence.source, other)
    if seen.value.nobody:
        return closed(seen.evidence)
    return widest([_named_inside(foothold, seen.value, seen.evidence) for foothold in scene.user])


def _named_inside(place: Foothold, rules: SudoRules, evidence: Evidence) -> Condition:
    if place.supposed or place.uid is None:
        return unknown(evidence.source, "they name users, and whom the service has is not known")
    if namespace_shared(place.process, "user").value is not True:
        return unknown(evidence.source, "they name users, and numbers differ in a user namespace")
    gids = place.groups if place.gid is None else place.groups | {place.gid}
    if rules.everyone or place.uid in rules.uids or gids & rules.gids:
        return opened(noted(evidence, f"a sudo rule names uid {place.uid} or a group of it"))
    return closed(noted(evidence, f"no sudo rule names uid {place.uid}"))


def _elsewhere(path: str, process: Process, theirs: tuple[Mount, ...]) -> str:
    """Why the process has another file at `path` than whoever has the mounts `theirs` may have; ''
    where it has not."""
    if process.mounts.value is None:
        return f"{process.name} may have another one: its mounts were not seen"
    own, ours = covering(process.mounts.value, path), covering(theirs, path)
    same = own is not None and ours is not None and (
        (own.device, own.root, own.path) == (ours.device, ours.root, ours.path)
    )  # fmt: skip
    return "" if same else f"{process.name} has another file system there"


def monitor(subject: str, scene: Scene, level: Level) -> Condition:
    """How the monitor of the machine underneath is confined cannot be seen from inside."""
    return unknown(f"monitor:{subject}", "cannot be seen from inside the guest")
