"""Which layer stopped an attempt: the filters, a capability, a namespace, a mount, a mode ...

The filters are asked first (`oracle`), since they answer before everybody else. What remains is
read from the errno, and from what is known of the process that tried. Pure but for that question.
"""

from __future__ import annotations

import errno
import os

from ringfence.collect.process.mounts import covering
from ringfence.model.process import Mount
from ringfence.probe.definition import Inside, Outcome, Tried

WORDS = {
    errno.ENOENT: "missing file", errno.ENOTDIR: "missing file", errno.ENXIO: "missing file",
    errno.EROFS: "read-only mount", errno.ECONNREFUSED: "nobody listens",
    errno.ESRCH: "namespace (pid)", errno.ENOSPC: "kernel setting (user.max_*_namespaces)",
    errno.EUSERS: "limit (nesting)", errno.EAGAIN: "limit", errno.EMFILE: "limit",
    errno.ENOSYS: "kernel without the feature", errno.ENODEV: "kernel without the feature",
    errno.EAFNOSUPPORT: "kernel without the feature", errno.ELOOP: "symlink",
    errno.EPROTONOSUPPORT: "kernel without the feature", errno.ENOTTY: "no controlling terminal",
    errno.ESOCKTNOSUPPORT: "kernel without the feature", errno.ENETUNREACH: "no route",
}  # fmt: skip


def layer_of(outcome: Outcome, inside: Inside) -> str:
    """The layer's name. `seccomp (...)`, `capability CAP_X`, `user namespace`, `file mode` ..."""
    if outcome.layer:
        return outcome.layer
    tried = outcome.tried
    if tried is None:
        return ""
    verdict = inside.passes(tried.name, *tried.arguments)
    if not verdict.passes:
        return verdict.words
    if tried.errno in (errno.EPERM, errno.EACCES):
        return _refused(tried, outcome.capability, inside)
    return WORDS.get(tried.errno, f"the kernel ({os.strerror(tried.errno).lower()})")


def _refused(tried: Tried, capability: str, inside: Inside) -> str:
    view = inside.view
    mount = covering(view.process.mounts.value or (), tried.path) if tried.path else None
    if mount is not None and tried.errno == errno.EACCES:
        by_mount = _by_mount(tried, mount)
        if by_mount:
            return by_mount
    if capability and not view.holds(capability):
        return f"capability {capability}"
    if capability and view.private("user"):
        return "user namespace"
    if capability:
        return "kernel (lockdown or a setting)"
    if tried.path:
        return _by_file(tried, inside)
    label = view.process.mac_label.value
    return f"security module ({label})" if label else "kernel (credentials or a setting)"


def _by_mount(tried: Tried, mount: Mount) -> str:
    """nodev and noexec mounts answer EACCES, as file modes do."""
    if tried.name in ("execve", "execveat") and "noexec" in mount.options:
        return "mount (noexec)"
    return ""


def _by_file(tried: Tried, inside: Inside) -> str:
    """A file's mode, or where that would permit it, whatever looks further: a device cgroup
    (EPERM), a security module, Landlock."""
    found = next((fact for facts in inside.view.paths.values() for fact in facts
                  if fact.path == tried.path), None)  # fmt: skip
    if found is not None and found.device_allowed is False:
        return "device cgroup"
    if tried.errno == errno.EPERM:
        return "kernel (lockdown or a setting)"
    label = inside.view.process.mac_label.value
    if found is not None and inside.view.uid in (0, found.uid) and found.mode & 0o600 == 0o600:
        return f"security module ({label})" if label else "Landlock or user namespace"
    return "file mode"
