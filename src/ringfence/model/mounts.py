"""What mounts are: of which kind their file systems are, and which of them a path lies on."""

from __future__ import annotations

from ringfence.model.process import Mount

KERNEL = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "securityfs",
                    "tracefs", "debugfs", "bpf", "pstore", "configfs", "fusectl", "hugetlbfs",
                    "nsfs", "efivarfs", "binfmt_misc", "rpc_pipefs", "selinuxfs"})  # fmt: skip
"""File systems of the kernel's own, where no program can be dropped."""
ANSWERING = ("fuse", "nfs", "cifs", "smb", "ceph", "autofs")
"""File systems behind which somebody answers, or does not."""
LAYERED = "fuse.fuse-overlayfs"
"""Of these the one that containers have for their root."""


def answers(mount: Mount) -> bool:
    """Whether looking into it may wait for somebody."""
    return mount.fstype.startswith(ANSWERING) and mount.fstype != LAYERED


def honours_setuid(mount: Mount) -> bool:
    """Whether a program on it may run with its owner's privileges (mount(8): nosuid, noexec)."""
    return mount.fstype not in KERNEL and not {"nosuid", "noexec"} & mount.options


def covering(found: tuple[Mount, ...], path: str) -> Mount | None:
    """The mount that a path lies on: the longest fitting point of those that are not hidden."""
    best: Mount | None = None
    for item in found:
        prefix = item.path.rstrip("/") + "/"
        fits = not item.hidden and (path == item.path or path.startswith(prefix))
        if fits and (best is None or len(item.path) >= len(best.path)):
            best = item
    return best


def below(path: str, folder: str) -> str | None:
    """What follows `folder` in an absolute path that it leads to: `/a/b` below `/a` is `/b`, `/a`
    itself ''. None for a path elsewhere."""
    folder = folder.rstrip("/")
    if path.rstrip("/") == folder:
        return ""
    return path[len(folder) :] if path.startswith(f"{folder}/") else None
