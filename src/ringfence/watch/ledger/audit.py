"""Denials in the kernel's audit lines: seccomp, AppArmor, SELinux, Landlock. Pure.

Lines as auditd writes them (`type=SECCOMP msg=audit(...): ...`), as the kernel's log has them
without it (`audit: type=1326 audit(...): ...`), and as /dev/kmsg gives them
(`5,1204,311,-;audit: ...`). Numbers of types: include/uapi/linux/audit.h; AppArmor:
security/apparmor/audit.c; SELinux: security/selinux/avc.c; Landlock:
Documentation/admin-guide/LSM/landlock.rst; seccomp: audit_seccomp() of kernel/auditsc.c.
"""

from __future__ import annotations

import binascii
import functools
import re
from typing import Any

import msgspec

from ringfence.collect.seccomp.tables import AUDIT_ARCH, calls_of
from ringfence.watch.ledger.record import Kind

MOST_LINE = 9000
"""Bytes of an audit line: MAX_AUDIT_MESSAGE_LENGTH is 8970."""
_TYPES = {"1326": "SECCOMP", "1400": "AVC", "1423": "LANDLOCK_ACCESS"}
_HEAD = re.compile(
    r"(?:audit: )?type=(?P<type>\w+) (?:msg=)?audit\((?P<seconds>\d{1,12})\.(?P<milli>\d{3}):"
    r"(?P<serial>\d{1,20})\): *(?P<rest>.*)"
)
_KMSG = re.compile(r"(?P<priority>\d+),\d+,\d+,[^;]*;(?P<text>.*)")
_KERNELS = re.compile(r"(?=audit: type=)")
"""Nothing stands before it in the kernel's own log, whose messages may repeat a process's words."""
_PREFIX = re.compile(r"(?:.{0,200} kernel: )?(?:\[ *[\d.]+\] )?(?=audit: type=|type=)")
_FIELD = re.compile(r'(\w+)=("[^"]*"|[^\s"]*)')
_AVC = re.compile(r"avc: +(?P<decision>denied|granted) +\{ (?P<rights>[^}]*) \} for +(?P<rest>.*)")
_UNTRUSTED = frozenset(
    {"comm", "exe", "name", "path", "profile", "info", "ocomm", "peer", "target"}
)
"""Fields that the kernel writes in hexadecimal when a byte of them is not a plain character
(audit_log_untrustedstring)."""
_ACTIONS = {
    0x80000000: "kill_process", 0x00000000: "kill_thread", 0x00030000: "trap",
    0x00050000: "errno", 0x7FC00000: "user_notif", 0x7FF00000: "trace", 0x7FFC0000: "log",
}  # fmt: skip
"""SECCOMP_RET_* of include/uapi/linux/seccomp.h."""
_ACTION_MASK = 0xFFFF0000


class Denial(msgspec.Struct, frozen=True):
    """One refusal, or what would have been one (`enforced` false: complain, permissive, log).

    `by`: seccomp, apparmor, selinux or landlock. `time`: microseconds since 1970 and `serial` are
    the audit event's; `pid` is None where the line has none. `detail` has the line's own fields.
    """

    by: str
    time: int
    serial: int
    pid: int | None
    program: str
    enforced: bool
    detail: dict[str, str]

    def entry(self) -> tuple[str, str, dict[str, Any]]:
        """Kind, subject and detail of its record."""
        event = f"{self.time // 1_000_000}.{self.time // 1000 % 1000:03d}:{self.serial}"
        own = {"by": self.by, "enforced": self.enforced, "pid": self.pid, "audit": event}
        return Kind.DENIAL, self.program or f"pid {self.pid}", {**self.detail, **own}


def denial(line: str) -> Denial | None:
    """The denial that an audit line tells of, if it does.

    In lines of /dev/kmsg only those are believed that the kernel wrote: what a process writes
    there never has facility 0 (Documentation/ABI/testing/dev-kmsg), and what a process had the
    kernel repeat in a message of its own does not stand at its beginning.
    """
    head = _head(line)
    if head is None:
        return None
    kind = _TYPES.get(head["type"], head["type"])
    reader = {"SECCOMP": _seccomp, "AVC": _avc, "LANDLOCK_ACCESS": _landlock}.get(kind)
    found = reader(head["rest"]) if reader else None
    if found is None:
        return None
    by, enforced, fields = found
    time = int(head["seconds"]) * 1_000_000 + int(head["milli"]) * 1000
    pid = fields.pop("pid", "")
    return Denial(
        by, time, int(head["serial"]), int(pid) if pid.isdigit() else None,
        fields.get("exe") or fields.get("comm", ""), enforced, fields,
    )  # fmt: skip


def landlock_domain(line: str) -> tuple[str, int] | None:
    """The domain that a line of Landlock tells of for the first time, and the process that made
    it: the kernel names only the domain in its denials. Believed as in `denial`."""
    head = _head(line)
    if head is None or head["type"] not in ("1424", "LANDLOCK_DOMAIN"):
        return None
    fields = _fields(head["rest"])
    domain, pid = fields.get("domain", ""), fields.get("pid", "")
    return (domain, int(pid)) if domain and pid.isdigit() else None


def _head(line: str) -> re.Match[str] | None:
    """The parts of an audit line; None of one that is none, or is not to be believed."""
    text = line.rstrip("\n")[:MOST_LINE]
    kmsg = _KMSG.fullmatch(text)
    if kmsg and int(kmsg["priority"]) >> 3 != 0:
        return None
    text = kmsg["text"] if kmsg else text
    prefix = (_KERNELS if kmsg else _PREFIX).match(text)
    return _HEAD.fullmatch(text[prefix.end() :]) if prefix else None


def _fields(text: str) -> dict[str, str]:
    """name=value pairs; the part behind 0x1d is auditd's own translation (ENRICHED)."""
    plain = text.partition("\x1d")[0]
    return {name: _value(name, value) for name, value in _FIELD.findall(plain)}


def _value(name: str, value: str) -> str:
    if value.startswith('"'):
        return value[1:-1]
    if name in _UNTRUSTED and value and value != "(null)":
        try:
            return binascii.unhexlify(value).decode(errors="backslashreplace")
        except ValueError:
            return value
    return value


_Found = tuple[str, bool, dict[str, str]]


def _seccomp(rest: str) -> _Found | None:
    fields = _fields(rest)
    try:
        arch, number = int(fields["arch"], 16), int(fields["syscall"])
        action = _ACTIONS.get(int(fields["code"], 16) & _ACTION_MASK, fields["code"])
    except (KeyError, ValueError):
        return None
    fields["action"] = action
    fields["call"] = _calls(arch).get(number, str(number))
    return "seccomp", action != "log", fields


@functools.cache
def _calls(arch: int) -> dict[int, str]:
    """Number -> name of the calls of an AUDIT_ARCH; empty for one that is not known here."""
    name = next((name for name, value in AUDIT_ARCH.items() if value == arch), None)
    return {number: call for call, number in calls_of(name).items()} if name else {}


def _avc(rest: str) -> _Found | None:
    """AppArmor and SELinux share the number 1400."""
    if rest.startswith("apparmor="):
        fields = _fields(rest)
        verdict = fields.pop("apparmor")
        return ("apparmor", verdict == "DENIED", fields) if verdict in _REFUSALS else None
    match = _AVC.fullmatch(rest)
    if match is None or match["decision"] != "denied":
        return None
    fields = {"rights": match["rights"].strip(), **_fields(match["rest"])}
    return "selinux", fields.get("permissive", "0") == "0", fields


_REFUSALS = ("DENIED", "ALLOWED")
"""ALLOWED is complain mode's word for what would have been denied."""


def _landlock(rest: str) -> _Found | None:
    fields = _fields(rest)
    return ("landlock", True, fields) if "blockers" in fields else None
