"""The policy languages: file name in the result's `policy/` -> what writes it."""

from __future__ import annotations

from collections.abc import Callable

from ringfence.harden.policy import (
    apparmor,
    compose,
    kubernetes,
    landlock,
    nftables,
    quadlet,
    seccomp,
    selinux,
    selinux_contexts,
    systemd,
)
from ringfence.harden.policy.needs import Needs

LANGUAGES: dict[str, Callable[[Needs], str]] = {
    "seccomp.json": seccomp.starting,
    "seccomp-serving.json": seccomp.serving,
    "apparmor": apparmor.write,
    "selinux.cil": selinux.write,
    "selinux.contexts": selinux_contexts.write,
    "nftables.nft": nftables.write,
    "landlock.json": landlock.write,
    "service.service": systemd.write,
    "quadlet.container": quadlet.write,
    "compose.yaml": compose.write,
    "kubernetes.yaml": kubernetes.write,
}
