"""A fence: everything that encloses a workload, and the OCI runtime configuration that says so.

Specification: https://github.com/opencontainers/runtime-spec/blob/main/config.md
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

ENGINE_CAPABILITIES = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID",
    "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip
"""What Docker gives a container that asks for nothing (moby, oci/caps/defaults.go)."""

ENGINE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Docker's, where an image says none (moby, oci/defaults.go)."""

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
    "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Docker's lists (moby, oci/defaults.go)."""

NFT = "/usr/sbin/nft"
ID_BASE, ID_COUNT = 0x70000000, 65536
"""User namespaces begin at a range that neither accounts nor subuid(5) of distributions use."""

VOLUME = ("nosuid", "nodev", "noexec", "rnosuid", "rnodev", "rnoexec")
"""How a volume is mounted, and (Linux 5.12) what this host has mounted below it."""

HOST_NAME = "fenced"
"""What a service is told its host is called."""

SHARED_MEMORY = "dev/shm"
"""Where shm_open(3) has its files."""


class Writable(msgspec.Struct, frozen=True, order=True):
    """A folder that the service may write: in memory, or `state` that should outlive it."""

    path: str
    state: bool = False


class Volume(msgspec.Struct, frozen=True):
    """A folder of this host, `outside`, in place of the writable one that is at `inside`."""

    outside: str
    inside: str
    read_only: bool = False


class Fence(msgspec.Struct, frozen=True):
    """What encloses one container. `uid`/`gid` are the service's, inside."""

    root: Path
    command: tuple[str, ...]
    environment: tuple[str, ...]
    folder: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = ()
    read_only: bool = True
    no_new_privileges: bool = True
    user_namespace: bool = True
    seccomp: dict[str, Any] | None = None
    writable: tuple[Writable, ...] = ()
    volumes: tuple[Volume, ...] = ()
    firewall: str = ""
    """nftables rules, loaded inside before the program starts; none where empty."""
    memory: int = 0
    processes: int = 0
    """Limits in bytes and processes; 0 for none."""
    memory_programs: bool = True
    """Whether a file in memory alone may be executed (memory_programs.py)."""


def configuration(fence: Fence, rules: str = "") -> dict[str, Any]:
    """The runtime's config.json. `rules` is a file with the fence's firewall, which the root of
    its user namespace can read."""
    sets = ("bounding", "effective", "permitted")
    found: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": fence.uid, "gid": fence.gid, "additionalGids": list(fence.groups)},
            "args": list(fence.command),
            "env": list(fence.environment),
            "cwd": fence.folder,
            "capabilities": {name: list(fence.capabilities) for name in sets},
            "noNewPrivileges": fence.no_new_privileges,
        },
        "root": {"path": str(fence.root), "readonly": fence.read_only},
        "hostname": HOST_NAME,
        "mounts": [*_system_mounts(not fence.read_only), *_own_mounts(fence)],
        "linux": _linux(fence),
    }
    if rules:
        # In the container's namespaces, but before it has its own root: nft(8) is the host's.
        hook = {"path": NFT, "args": ["nft", "-f", rules]}
        found["hooks"] = {"createContainer": [hook]}
    return found


def _linux(fence: Fence) -> dict[str, Any]:
    kinds = ["pid", "network", "ipc", "uts", "mount", *(["user"] if fence.user_namespace else [])]
    limits: dict[str, Any] = {"devices": [{"allow": False, "access": "rwm"}]}
    if fence.memory:
        limits["memory"] = {"limit": fence.memory}
    if fence.processes:
        limits["pids"] = {"limit": fence.processes}
    found: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in kinds],
        "resources": limits,
        "maskedPaths": list(MASKED),
        "readonlyPaths": list(READ_ONLY),
        "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
    }
    if fence.user_namespace:
        mapping = [{"containerID": 0, "hostID": ID_BASE, "size": ID_COUNT}]
        found |= {"uidMappings": mapping, "gidMappings": mapping}
    if fence.seccomp is not None:
        found["seccomp"] = fence.seccomp
    return found


def _system_mounts(shared: bool) -> list[dict[str, Any]]:
    """`shared`: with the folders of shared memory and queues that engines add by themselves."""
    nothing = ["nosuid", "noexec", "nodev"]
    rows = [
        ("/proc", "proc", "proc", nothing),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666"]),
        ("/sys", "sysfs", "sysfs", [*nothing, "ro"]),
    ]
    if shared:
        memory = [*nothing, "mode=1777", "size=65536k"]
        rows.append((f"/{SHARED_MEMORY}", "tmpfs", "shm", memory))
        rows.append(("/dev/mqueue", "mqueue", "mqueue", nothing))
    return [
        {"destination": place, "type": kind, "source": source, "options": options}
        for place, kind, source, options in rows
    ]


def _own_mounts(fence: Fence) -> list[dict[str, Any]]:
    """Folders in memory begin with what the image has there (tmpcopyup)."""
    held = {volume.inside for volume in fence.volumes}
    options = ["nosuid", "nodev", "noexec", "mode=0700", "tmpcopyup", "size=1g"]
    found: list[dict[str, Any]] = []
    for item in sorted(fence.writable):
        if item.path in held:
            continue
        mode = [*options, f"uid={fence.uid}", f"gid={fence.gid}"]
        found.append(
            {"destination": f"/{item.path}", "type": "tmpfs", "source": "tmpfs", "options": mode}
        )
    for volume in fence.volumes:
        choices = ["rbind", *VOLUME, *(("ro", "rro") if volume.read_only else ("rw",))]
        place = {"destination": f"/{volume.inside}", "source": volume.outside}
        found.append({**place, "type": "bind", "options": choices})
    return found
