"""The vocabulary of conditions: which kinds there are, and which subjects each one knows.

A condition that no collector and no template could ever decide would silently stay `unknown`;
so every id that an entry names is checked against this list at load.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ringfence.knowledge.records import Knowledge

OF_THE_KERNEL = ("feature:", "sysctl:", "kernel:")
"""Kinds of conditions that are facts about the kernel under a service, none about the service."""
SUBJECTS: dict[str, frozenset[str]] = {
    "kernel": frozenset(
        "shared lockdown-off modules-unsigned smep-off smap-off umip-off mitigations-off "
        "secure-boot-off measured-boot-off module-loading kexec-permitted".split()
    ),
    "ring": frozenset({"0"}),
    "namespace": frozenset("mnt pid net ipc uts user cgroup time".split()),
    "process": frozenset(
        "new-privileges root-user root-id effective-capabilities bounding-capabilities "
        "ambient-capabilities privileged-parent shared-user environment-secrets "
        "shared-terminal ptrace-others".split()
    ),
    "file": frozenset(
        "setuid capabilities shell interpreter compiler package-manager network-tool "
        "world-writable".split()
    ),
    "code": frozenset(
        "executable-stack writable-executable fixed-address no-canary no-relro no-fortify "
        "no-cet memory-unsafe no-guard-pages".split()
    ),
    "seccomp": frozenset({"absent"}),
    "mac": frozenset("no-selinux no-apparmor no-smack no-tomoyo no-landlock unconfined".split()),
    "net": frozenset({"inbound-open", "outbound-open", "metadata-reachable"}),
    "guard": frozenset(
        "audit-absent audit-mutable logging-absent log-forwarding-absent log-sealing-absent "
        "log-rotation-absent integrity-absent ima-absent evm-absent verity-absent "
        "exec-control-absent baseline-absent image-unsigned".split()
    ),
    "limit": frozenset(
        "memory-absent pids-absent cpu-absent io-absent devices-absent files-absent".split()
    ),
    "account": frozenset({"sudo-rule", "polkit-rule"}),
    "monitor": frozenset({"unconfined", "root", "host-namespaces"}),
}
"""Kinds whose subjects are fixed."""

_FORMS: dict[str, re.Pattern[str]] = {
    "syscall": re.compile(r"[a-z0-9_]+(\[[^\[\]]+\])?"),
    "cap": re.compile(r"CAP_[A-Z_]+"),
    "nscap": re.compile(r"CAP_[A-Z_]+"),
    "sysctl": re.compile(r"[a-z0-9_.-]+(<=|>=|==)-?\d+"),
}
"""Kinds whose subjects have a form."""

MOUNT_SUBJECTS = frozenset({"writable-root", "executable-writable", "suid"})
READABLE = ".readable"


def check_condition(condition: str, knowledge: Knowledge) -> str:
    """Why `condition` (an id, a pattern, or a formula's id) is not in the vocabulary, or ''."""
    kind, colon, subject = condition.partition(":")
    if not colon:
        if condition == "*" or condition in knowledge.formulas:
            return ""
        return f"{condition!r} is neither a condition (kind:subject) nor a formula"
    if kind not in _kinds(knowledge):
        return f"{condition!r}: there is no kind {kind!r}"
    if subject.endswith("*"):
        return ""
    if kind in _FORMS:
        return "" if _FORMS[kind].fullmatch(subject) else f"{condition!r} is malformed"
    known = _kinds(knowledge)[kind]
    return "" if subject in known else f"{condition!r}: {kind} has no {subject!r}"


def _kinds(knowledge: Knowledge) -> dict[str, frozenset[str]]:
    """Every kind with its subjects; empty for the kinds whose subjects have a form."""
    mounts = frozenset(knowledge.mounts)
    readable = frozenset(f"{name}{READABLE}" for name in mounts)
    return {
        **SUBJECTS,
        **{kind: frozenset[str]() for kind in _FORMS},
        "feature": frozenset(knowledge.features),
        "path": frozenset(knowledge.paths),
        "device": frozenset(knowledge.devices),
        "mount": MOUNT_SUBJECTS | mounts | readable,
    }


def vector_ids(entry_points: Iterable[str], knowledge: Knowledge) -> frozenset[str]:
    """Ids of every vector that a deployment with these entry points can have."""
    entries = {f"{point}.{outcome}" for point in entry_points for outcome in ("leak", "execution")}
    return frozenset(entries | {opening.id for opening in knowledge.openings})
