"""User, groups, capability sets and no_new_privs, from /proc/PID/status (proc(5))."""

from __future__ import annotations

import functools
import pwd

from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.process import Credentials

CAPABILITIES = tuple(
    (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP "
        "LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER "
        "SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
        "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
        "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF "
        "CHECKPOINT_RESTORE"
    ).split()
)
"""Names in bit order: include/uapi/linux/capability.h."""


def capability_names(mask: int) -> frozenset[str]:
    """The names of the bits that are set in a capability mask; unknown bits as CAP_41 and so on."""
    names = set()
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            names.add(f"CAP_{CAPABILITIES[bit]}" if bit < len(CAPABILITIES) else f"CAP_{bit}")
    return frozenset(names)


def credentials(pid: int, status: dict[str, str]) -> Credentials:
    """Credentials from the fields of /proc/PID/status, effective ids first."""
    uid, gid = int(status["Uid"].split()[1]), int(status["Gid"].split()[1])
    detail = f"Uid {uid}, CapEff {status['CapEff']}"
    sets = {
        name: capability_names(int(status[field], 16))
        for name, field in (
            ("effective", "CapEff"),
            ("permitted", "CapPrm"),
            ("inheritable", "CapInh"),
            ("bounding", "CapBnd"),
            ("ambient", "CapAmb"),
        )
    }
    return Credentials(
        uid=uid,
        gid=gid,
        groups=tuple(int(group) for group in status.get("Groups", "").split()),
        user=user_name(uid),
        evidence=Evidence(Grade.OBSERVED, f"/proc/{pid}/status", detail),
        **sets,
    )


@functools.cache
def user_name(uid: int) -> str:
    """The host's name for a user id, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def no_new_privileges(pid: int, status: dict[str, str]) -> Seen[bool]:
    """The process's no_new_privs bit."""
    source = f"/proc/{pid}/status"
    if "NoNewPrivs" not in status:
        return Seen(None, Evidence(Grade.ASSUMED, source, "no NoNewPrivs line"))
    value = status["NoNewPrivs"]
    return Seen(value == "1", Evidence(Grade.OBSERVED, source, f"NoNewPrivs {value}"))
