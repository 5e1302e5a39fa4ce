"""Which layer stopped an attempt: the filters, a capability, a namespace, a mount, a mode ...

The filters are asked first (`oracle`), since they answer before everybody else. What remains is
read from the errno, and from what is known of the process that tried. Pure but for that question.
"""

from __future__ import annotations

import errno
import os

from ringfence.model.mounts import covering
from ringfence.model.process import Mount, PathFact
from ringfence.probe.definition import ABSENCE, Inside, Outcome, Tried
from ringfence.probe.view import View

WORDS = {
    errno.ENOENT: "missing file", errno.ENOTDIR: "missing file", errno.ENXIO: "missing file",
    errno.EROFS: "read-only mount", errno.ECONNREFUSED: "nobody listens",
    errno.ESRCH: "namespace (pid)", errno.ENOSPC: "limit",
    errno.EUSERS: "limit (nesting)", errno.EAGAIN: "limit", errno.EMFILE: "limit",
    errno.ENOSYS: ABSENCE, errno.ENODEV: ABSENCE, errno.EAFNOSUPPORT: ABSENCE,
    errno.EPROTONOSUPPORT: ABSENCE, errno.ESOCKTNOSUPPORT: ABSENCE,
    errno.ELOOP: "symlink", errno.ENOTTY: "no controlling terminal",
    errno.ENETUNREACH: "no route",
}  # fmt: skip
FILTER = "seccomp"


def by_filter(layer: str) -> bool:
    """Whether a layer's name is that of a seccomp filter's answer."""
    return layer.startswith(FILTER)


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
    if tried.errno == errno.ENOSPC and tried.name in ("unshare", "clone", "clone3"):
        return "kernel setting (user.max_*_namespaces)"
    return WORDS.get(tried.errno, f"the kernel ({os.strerror(tried.errno).lower()})")


def _refused(tried: Tried, capability: str, inside: Inside) -> str:
    view = inside.view
    mount = covering(view.process.mounts.value or (), tried.path) if tried.path else None
    if mount is not None and tried.errno == errno.EACCES:
        by_mount = _by_mount(tried, mount, inside)
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
    if label:
        return f"security module ({label})"
    if tried.name in ("mmap", "mprotect") and tried.errno == errno.EACCES:
        return "process setting (PR_SET_MDWE)"
    if view.owns and (tried.name, tried.errno) in LANDLOCKED:
        return "Landlock"
    return "kernel (credentials or a setting)"


LANDLOCKED = {("bind", errno.EACCES), ("connect", errno.EACCES), ("connect", errno.EPERM),
              ("kill", errno.EPERM), ("execve", errno.EACCES),
              ("execveat", errno.EACCES)}  # fmt: skip
"""What a domain answers, where nothing else is left that would (inject alone sees one):
https://docs.kernel.org/userspace-api/landlock.html."""


def _fact(path: str, inside: Inside) -> PathFact | None:
    return next((fact for facts in inside.view.paths.values() for fact in facts
                 if fact.path == path), None)  # fmt: skip


def _by_mount(tried: Tried, mount: Mount, inside: Inside) -> str:
    """nodev and noexec mounts answer EACCES, as file modes do."""
    if tried.name in ("execve", "execveat") and "noexec" in mount.options:
        return "mount (noexec)"
    found = _fact(tried.path, inside)
    if found is not None and found.kind == "device" and "nodev" in mount.options:
        return "mount (nodev)"
    return ""


def _by_file(tried: Tried, inside: Inside) -> str:
    """A file's mode, or where that would permit it, whatever looks further: a device cgroup
    (EPERM), a security module, Landlock."""
    view = inside.view
    found = _fact(tried.path, inside)
    if found is not None and found.device_allowed is False:
        return "device cgroup"
    if tried.errno == errno.EPERM:
        capability = GUARDED.get(tried.path, "")
        missing = capability and not view.holds(capability)
        return f"capability {capability}" if missing else "kernel (lockdown or a setting)"
    if found is None or not _mode_permits(found, tried, view):
        return "file mode"
    label = view.process.mac_label.value
    if label:
        return f"security module ({label})"
    if view.private("user"):
        return "Landlock or user namespace" if view.owns else "user namespace"
    return "Landlock" if view.owns else "file mode"  # of a folder on the way


GUARDED = {"/dev/kmsg": "CAP_SYSLOG", "/proc/kcore": "CAP_SYS_RAWIO",
           "/dev/mem": "CAP_SYS_RAWIO", "/dev/port": "CAP_SYS_RAWIO"}  # fmt: skip
"""What opening asks for beside the mode (kernel/printk, fs/proc/kcore.c, drivers/char/mem.c)."""


def _mode_permits(found: PathFact, tried: Tried, view: View) -> bool:
    """Whether the mode, or a capability that passes over it, would have let it through."""
    if view.holds("CAP_DAC_OVERRIDE"):
        return True
    wanted = 6
    if tried.name in ("open", "openat"):
        flags = tried.arguments[1 if tried.name == "open" else 2]
        wanted = (4, 2, 6, 6)[flags & 3] if isinstance(flags, int) else wanted
    elif tried.name == "connect":
        wanted = 2
    own = view.process.credentials.value
    if own is None or own.uid == found.uid:
        return found.mode >> 6 & wanted == wanted
    if found.gid in (own.gid, *own.groups):
        return found.mode >> 3 & wanted == wanted
    return found.mode & wanted == wanted
