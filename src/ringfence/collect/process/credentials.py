"""User, groups, capability sets and no_new_privs, from /proc/PID/task/*/status (proc(5)).

The kernel keeps all of them for each thread: libc sets every thread's, a raw system call one
alone. Code of an attacker's in the process can use any of its threads, so the weakest counts.
"""

from __future__ import annotations

import functools
import os
import pwd
from typing import Any

from ringfence.collect.process import procfs
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


Statuses = dict[int, dict[str, str]]
"""The fields of /proc/PID/task/TID/status of each thread, the first one's first."""

_SETS = {
    "effective": "CapEff",
    "permitted": "CapPrm",
    "inheritable": "CapInh",
    "bounding": "CapBnd",
    "ambient": "CapAmb",
}


def thread_statuses(pid: int, status: dict[str, str]) -> Statuses:
    """The fields of every thread that lives; `status` are those of /proc/PID/status.

    Raises procfs.Vanished. The first thread may have ended before the others: it counts only
    where no other is seen."""
    found: Statuses = {}
    try:
        names = os.listdir(f"/proc/{pid}/task")
    except OSError:
        names = []
    for name in sorted(names, key=int):
        try:
            text = procfs.read(pid, f"task/{name}/status").decode("utf-8", "replace")
        except OSError:
            continue
        fields = procfs.fields(text)
        if fields.get("State", "X")[:1] not in "ZX":
            found[int(name)] = fields
    if pid in found:
        return {pid: found.pop(pid), **found}
    return found or {pid: status}


def credentials(pid: int, threads: Statuses) -> Credentials:
    """Credentials of all threads together, the ids of the most privileged one first."""
    # max() keeps the first of equals: the first thread, where none has more than it.
    thread = max(threads, key=lambda item: _power(threads[item]))
    status = threads[thread]
    uids, gids = _ids(status, "Uid"), _ids(status, "Gid")
    # Where all of a thread's ids are the same, one of them says it.
    shown = " ".join(map(str, uids if len(set(uids)) > 1 else uids[:1]))
    detail = f"Uid {shown}, CapEff {status['CapEff']}"
    if not int(status["CapEff"], 16) and int(status["CapPrm"], 16):
        detail += f", CapPrm {status['CapPrm']}"
    groups = dict.fromkeys(
        group
        for item in (status, *threads.values())
        for group in (
            *map(int, item.get("Groups", "").split()),
            *(other for other in _ids(item, "Gid") if other != gids[1]),
        )
    )
    sets: dict[str, Any] = {
        name: frozenset().union(
            *(capability_names(mask) for mask in {int(one[field], 16) for one in threads.values()})
        )
        for name, field in _SETS.items()
    }
    return Credentials(
        uid=uids[1],
        gid=gids[1],
        groups=tuple(groups),
        user=user_name(uids[1]),
        evidence=_evidence(pid, thread, threads, detail, "has more privileges"),
        uids=frozenset(uid for item in threads.values() for uid in _ids(item, "Uid")),
        root_mapped=_maps_root(pid),
        **sets,
    )


def _ids(status: dict[str, str], field: str) -> list[int]:
    """Real, effective, saved and file system id."""
    return [int(word) for word in status[field].split()]


def _maps_root(pid: int) -> bool:
    """Whether the process's user namespace maps the reader's user 0 (user_namespaces(7))."""
    try:
        text = procfs.read(pid, "uid_map").decode("ascii", "replace")
    except (OSError, procfs.Vanished):
        return False
    return maps_root(text)


def maps_root(text: str) -> bool:
    """Whether a uid_map, lines of `inside outside count`, has user 0 on its outside."""
    return any(line.split()[1:2] == ["0"] for line in text.splitlines())


def _power(status: dict[str, str]) -> tuple[bool, int]:
    """Orders threads by what they may do: root of any kind first, then by their capabilities."""
    usable = int(status["CapEff"], 16) | int(status["CapPrm"], 16)
    return 0 in _ids(status, "Uid"), usable.bit_count()


def _evidence(pid: int, thread: int, threads: Statuses, detail: str, how: str) -> Evidence:
    """What `thread` shows, named where it is not the first one."""
    if thread == next(iter(threads)):
        place = "" if thread == pid else f"task/{thread}/"
        return Evidence(Grade.OBSERVED, f"/proc/{pid}/{place}status", detail)
    note = f"; thread {thread} {how} than the first one"
    return Evidence(Grade.OBSERVED, f"/proc/{pid}/task/{thread}/status", f"{detail}{note}")


@functools.cache
def user_name(uid: int) -> str:
    """The host's name for a user id, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def no_new_privileges(pid: int, threads: Statuses) -> Seen[bool]:
    """The no_new_privs bit, which holds for the process where every thread has it."""
    for thread, status in threads.items():
        if "NoNewPrivs" not in status:
            source = f"/proc/{pid}/status"
            return Seen(None, Evidence(Grade.ASSUMED, source, "no NoNewPrivs line"))
        value = status["NoNewPrivs"]
        if value != "1":
            detail = f"NoNewPrivs {value}"
            return Seen(False, _evidence(pid, thread, threads, detail, "is less bound"))
    detail = "NoNewPrivs 1" if len(threads) == 1 else f"NoNewPrivs 1 of all {len(threads)} threads"
    return Seen(True, _evidence(pid, next(iter(threads)), threads, detail, ""))
