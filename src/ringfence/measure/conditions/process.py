"""Conditions that a process's own state decides: privileges, filters, namespaces, memory."""

from __future__ import annotations

from collections.abc import Callable

from ringfence.measure.conditions.scene import (
    NOBODY,
    Foothold,
    Scene,
    closed,
    from_seen,
    is_admin,
    namespace_shared,
    noted,
    opened,
    over_system,
    unknown,
    widest,
)
from ringfence.model.deployment import Condition
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.need import State
from ringfence.model.position import Level
from ringfence.model.process import CallVerdict, Credentials, Process, Seccomp

PASSES = frozenset({"allow", "log"})
HANDED_ON = frozenset({"notify", "trace"})
UNCONFINED_TYPES = frozenset({"unconfined_t", "unconfined_service_t", "spc_t", "initrc_t", "init_t",
                              "kernel_t"})  # fmt: skip
"""SELinux types that the reference policy lets do everything (unconfined_domain_type), and that of
a privileged container (container-selinux)."""


def syscall(subject: str, scene: Scene, level: Level) -> Condition:
    """Whether the seccomp filters let a call through, for some choice of its other arguments."""
    return over(scene, level, f"syscall:{subject}", lambda place: _call(subject, place, scene))


def _call(subject: str, place: Foothold, scene: Scene) -> Condition:
    seen = place.process.seccomp
    filters = seen.value
    if filters is None:
        return unknown(seen.evidence.source, seen.evidence.detail)
    if filters.mode == 0:
        return opened(noted(filters.evidence, f"{subject}: no seccomp filter"))
    if filters.mode == 1:
        return closed(noted(filters.evidence, f"{subject}: strict mode"))
    verdict = filters.asked.get(subject, filters.calls.get(subject))
    if verdict is None:
        return unknown(filters.evidence.source, f"{subject}: not in the table")
    evidence = noted(filters.evidence, f"{subject}: {in_words(verdict)}")
    if PASSES & set(verdict.actions):
        return opened(evidence)
    if verdict.through:
        return _as_foreign(verdict, evidence, scene)
    if "notify" in verdict.actions and "trace" not in verdict.actions and filters.answered:
        known = filters.answered
        return closed(noted(known, f"{evidence.detail}: {known.detail}"))
    if HANDED_ON & set(verdict.actions):
        return unknown(evidence.source, f"{evidence.detail}: another process decides")
    return closed(evidence)


def _as_foreign(verdict: CallVerdict, evidence: Evidence, scene: Scene) -> Condition:
    """Refused natively, let through as another architecture: as far as the kernel runs that."""
    host = scene.facts.host
    runs = host.kernel.features.get("ia32-emulation") if host is not None else None
    detail = f"{evidence.detail}, but let through as {', '.join(verdict.through)}"
    if runs is None or runs.value is None:
        return unknown(evidence.source, detail)
    if not runs.value:
        return closed(noted(evidence, f"{detail}, which this kernel does not run"))
    return opened(noted(evidence, detail))


def in_words(verdict: CallVerdict) -> str:
    """A verdict as a person reads it: `errno 1 (EPERM)`, `allow or errno by argument 0`."""
    text = " or ".join(verdict.actions)
    if verdict.errno is not None:
        text = f"{text} {verdict.errno}"
    if verdict.arguments and len(verdict.actions) > 1:
        text += f" by argument {', '.join(map(str, verdict.arguments))}"
    return text


def seccomp(subject: str, scene: Scene, level: Level) -> Condition:
    """`absent`: no filter at all."""

    def one(place: Foothold) -> Condition:
        filters: Seccomp | None = place.process.seccomp.value
        if filters is None:
            return _unseen(place.process.seccomp.evidence)
        evidence = filters.evidence
        return opened(evidence) if filters.mode == 0 else closed(evidence)

    return over(scene, level, "seccomp:absent", one)


def cap(subject: str, scene: Scene, level: Level) -> Condition:
    """A capability that is held over the initial user namespace."""

    def one(place: Foothold) -> Condition:
        held = _held(subject, place)
        if held.state is State.CLOSED:
            return held
        shared = namespace_shared(place.process, "user")
        if shared.value is False:
            return closed(noted(shared.evidence, "held over its own user namespace only"))
        return held if shared.value else _unseen(shared.evidence)

    return over(scene, level, f"cap:{subject}", one)


def nscap(subject: str, scene: Scene, level: Level) -> Condition:
    """A capability that is held over the user namespace of the workload's own namespaces."""
    return over(scene, level, f"nscap:{subject}", lambda place: _held(subject, place))


def _held(name: str, place: Foothold) -> Condition:
    evidence = place.process.credentials.evidence
    if place.capabilities is None:
        return _unseen(evidence)
    where = "bounding set" if place.supposed else "effective or permitted set"
    if name in place.capabilities:
        return opened(noted(evidence, f"{place.note}: {name} in the {where}"))
    return closed(noted(evidence, f"{place.note}: {name} not in the {where}"))


def namespace(subject: str, scene: Scene, level: Level) -> Condition:
    """Shared with the host's init."""

    def one(place: Foothold) -> Condition:
        return from_seen(namespace_shared(place.process, subject), open_when=True)

    return over(scene, level, f"namespace:{subject}", one)


def process(subject: str, scene: Scene, level: Level) -> Condition:
    """What the processes themselves show."""
    whole = {"root-user": _root_user, "privileged-parent": _privileged_parent}
    if subject in whole:
        return whole[subject](scene)
    if subject.endswith("-capabilities"):
        return _capability_set(subject.removesuffix("-capabilities"), scene)
    if subject == "root-id":
        return over(scene, level, "process:root-id", _root_id)
    single: dict[str, Callable[[Process], Condition]] = {
        "new-privileges": lambda place: from_seen(place.no_new_privileges, open_when=False),
        "environment-secrets": _secrets,
        "shared-user": lambda place: _neighbours(place.neighbours),
        "ptrace-others": lambda place: _neighbours(place.neighbours),
        "shared-terminal": lambda place: from_seen(place.terminal, open_when=True),
    }
    decide = single[subject]
    return over(scene, level, f"process:{subject}", lambda place: decide(place.process))


def _root_user(scene: Scene) -> Condition:
    """A process is user 0, or becomes it with one call."""
    seen = [(process, _credentials(process)) for process in scene.facts.processes]
    known = [item for _, item in seen if item is not None]
    for item, credentials in seen:
        detail = _as_root(item, credentials) if credentials is not None else ""
        if credentials is not None and detail:
            return opened(noted(credentials.evidence, detail))
    if not known or len(known) < len(seen):
        return unknown("process:root-user", "credentials not seen")
    return closed(noted(known[0].evidence, f"uid {known[0].uid} ({known[0].user})"))


def _as_root(process: Process, credentials: Credentials) -> str:
    """How it is root or becomes it; empty where it does not."""
    shown = f"uid {credentials.uid} ({credentials.user})"
    if credentials.uid == 0:
        return shown
    if credentials.root:
        return f"{shown}, and uid 0 is kept: one call takes it back"
    if "CAP_SETUID" in credentials.usable and over_system(process):
        return f"{shown} with CAP_SETUID: one call makes it uid 0"
    return ""


def _root_id(place: Foothold) -> Condition:
    """Whether code at this foothold is, or as admin would be, the host's own user 0."""
    shared = namespace_shared(place.process, "user")
    if not place.supposed:
        evidence = place.process.credentials.evidence
        if place.uid is None:
            return _unseen(evidence)
        return opened(evidence) if place.uid == 0 else closed(evidence)
    if place.uid == NOBODY:
        return closed(noted(place.process.credentials.evidence, "as another user"))
    return from_seen(shared, open_when=True)


def _capability_set(name: str, scene: Scene) -> Condition:
    known = [(item, _credentials(item)) for item in scene.facts.processes]
    for item, credentials in known:
        if credentials is None:
            continue
        # What is permitted is made effective with one call.
        held = credentials.usable if name == "effective" else credentials.bounding
        if held:
            where = "effective or permitted" if name == "effective" else name
            detail = f"{item.name}: {len(held)} in the {where} set"
            return opened(noted(credentials.evidence, detail))
    first = next((credentials for _, credentials in known if credentials is not None), None)
    if first is None or any(credentials is None for _, credentials in known):
        return unknown(f"process:{name}-capabilities", "credentials not seen")
    return closed(noted(first.evidence, f"{name} set is empty"))


def _credentials(process: Process) -> Credentials | None:
    return process.credentials.value


def _privileged_parent(scene: Scene) -> Condition:
    """A process of the same program, admin of the zone, that is the parent of one that is not."""
    by_pid = {process.pid: process for process in scene.facts.processes}
    for item in scene.facts.processes:
        parent = by_pid.get(item.parent) if item.parent is not None else None
        if parent is None or parent.program != item.program:
            continue
        if is_admin(parent, scene.facts.container) and not is_admin(item, scene.facts.container):
            detail = f"{parent.name} runs with more privileges than its child {item.name}"
            return opened(noted(parent.credentials.evidence, detail))
    if not scene.facts.processes:
        return unknown("process:privileged-parent")
    detail = "no process of the workload is more privileged than its child"
    return closed(Evidence(Grade.OBSERVED, "/proc", detail))


def _secrets(item: Process) -> Condition:
    hints = item.environment.value
    if hints is None:
        return _unseen(item.environment.evidence)
    if hints:
        names = ", ".join(hint.name for hint in hints[:3])
        return opened(noted(item.environment.evidence, f"names that look like secrets: {names}"))
    return closed(noted(item.environment.evidence, "no name looks like a secret"))


def _neighbours(seen: Seen[tuple[str, ...]]) -> Condition:
    if seen.value is None:
        return _unseen(seen.evidence)
    if seen.value:
        return opened(noted(seen.evidence, f"same user: {', '.join(seen.value[:3])}"))
    return closed(noted(seen.evidence, "no other program runs as this user"))


def limit(subject: str, scene: Scene, level: Level) -> Condition:
    """cgroup limits, by their absence."""
    if subject == "devices-absent":
        return over(scene, level, "limit:devices-absent", _devices)
    field = {"memory-absent": "memory_bytes", "pids-absent": "pids", "cpu-absent": "cpu_quota"}

    def one(place: Foothold) -> Condition:
        limits = place.process.limits.value
        if limits is None or subject not in field:
            return _unseen(place.process.limits.evidence)
        value = getattr(limits, field[subject])
        if value is None:
            return opened(noted(limits.evidence, f"{field[subject]}: no limit"))
        return closed(noted(limits.evidence, f"{field[subject]} = {value}"))

    return over(scene, level, f"limit:{subject}", one)


HARMLESS = frozenset(
    "1:3 1:5 1:7 1:8 1:9 5:0 5:1 5:2 10:200 10:229".split()
    + [f"{major}:*" for major in range(136, 144)]
)
"""Character devices (major:minor) that lead to no memory, disk or hardware of the host: null, zero,
full, random, urandom, tty, console, ptmx, tun, fuse, and the ends of pseudo-terminals
(Documentation/admin-guide/devices.txt of the kernel)."""


def _devices(place: Foothold) -> Condition:
    """Whether the device cgroup lets open what is not harmless. To make a node (`m`) is nothing
    where it does not open. CAP_SYS_ADMIN over the system may change the rules: version 1 asks for
    no more (devices.allow), and programs are detached with it."""
    limits = place.process.limits
    seen = limits.value.devices if limits.value is not None else None
    if seen is None or seen.value is None:
        return _unseen(limits.evidence if seen is None else seen.evidence)
    others = [rule for rule in seen.value if not _is_harmless(rule)]
    if others:
        shown = ", ".join(others[:3])
        return opened(noted(seen.evidence, f"the device cgroup lets through {shown}"))
    held = place.capabilities
    if held is None or ("CAP_SYS_ADMIN" in held and over_system(place.process)):
        return unknown(seen.evidence.source, f"{place.note} may have CAP_SYS_ADMIN to change them")
    return closed(noted(seen.evidence, "the device cgroup lets through harmless devices alone"))


def _is_harmless(rule: str) -> bool:
    kind, _, rest = rule.partition(" ")
    number, _, access = rest.partition(" ")
    if not {"r", "w"} & set(access):
        return kind in ("a", "b", "c") and access == "m"
    return kind == "c" and bool({number, f"{number.partition(':')[0]}:*"} & HARMLESS)


def mac(subject: str, scene: Scene, level: Level) -> Condition:
    """Whether a mandatory access control module confines this process."""
    host = scene.facts.host
    lsms = host.kernel.lsms if host is not None else None

    def one(place: Foothold) -> Condition:
        label = place.process.mac_label
        if subject == "no-landlock":
            return unknown("landlock", "the kernel does not show a process's Landlock domain")
        confined = _confined_by(label.value)
        if label.value is None and (lsms is None or lsms.value is None):
            return _unseen(label.evidence)
        if subject == "unconfined":
            return closed(label.evidence) if confined else opened(label.evidence)
        name = subject.removeprefix("no-")
        if confined == name:
            return closed(label.evidence)
        if lsms is not None and lsms.value is not None and name not in lsms.value:
            return opened(noted(lsms.evidence, f"{name} is not among {', '.join(lsms.value)}"))
        return opened(label.evidence)

    return over(scene, level, f"mac:{subject}", one)


def _confined_by(label: str | None) -> str:
    """Which module a label in /proc/PID/attr/current belongs to; empty when it confines nothing."""
    if not label or label.startswith("unconfined"):
        return ""
    if label.endswith("(enforce)"):
        return "apparmor"
    parts = label.split(":")
    return "selinux" if len(parts) > 2 and parts[2] not in UNCONFINED_TYPES else ""


def _unseen(evidence: Evidence) -> Condition:
    return unknown(evidence.source, evidence.detail or "not seen")


def over(scene: Scene, level: Level, name: str, one: Callable[[Foothold], Condition]) -> Condition:
    """The widest answer over the footholds of `level`."""
    places = scene.footholds(level)
    if not places:
        return unknown(name, "no process was seen")
    return widest([one(place) for place in places])
