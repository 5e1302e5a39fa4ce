"""The OCI runtime's seccomp section: whatever is not named fails.

https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp. Pointers are out
of a filter's sight, so only numbers in registers are checked: flags of clone, families of socket,
commands of ioctl, options of prctl. clone3 keeps its flags in memory and is answered ENOSYS, upon
which the C library uses clone.
"""

from __future__ import annotations

import socket
from typing import Any

import msgspec

from ringfence.collect.seccomp.question import parse
from ringfence.harden.policy.calls import NEVER
from ringfence.harden.policy.needs import Needs

EPERM, ENOSYS = 1, 38
CLONE_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (include/uapi/linux/sched.h)."""
PERSONALITIES = (0x0, 0xFFFFFFFF)
"""PER_LINUX, and the value that only asks."""
TYPE_MASK = 0xF
IOCTLS = {
    "TCGETS": 0x5401, "TIOCGWINSZ": 0x5413, "FIONREAD": 0x541B, "FIONBIO": 0x5421,
    "FIOCLEX": 0x5451, "FIONCLEX": 0x5450, "FIOASYNC": 0x5452, "SIOCGIFCONF": 0x8912,
    "SIOCGIFFLAGS": 0x8913, "SIOCGIFADDR": 0x8915, "SIOCGIFINDEX": 0x8933, "SIOCATMARK": 0x8905,
    "SIOCGIFNAME": 0x8910, "TIOCGPGRP": 0x540F, "TIOCSPGRP": 0x5410, "TCSETS": 0x5402,
    "TIOCOUTQ": 0x5411, "SIOCOUTQ": 0x5411, "SIOCINQ": 0x541B, "TIOCINQ": 0x541B,
    "FICLONE": 0x40049409, "FS_IOC_GETFLAGS": 0x80086601, "TCGETS2": 0x802C542A,
    "SIOCGIFNETMASK": 0x891B, "SIOCGIFHWADDR": 0x8927, "SIOCGIFMTU": 0x8921, "TCSETSW": 0x5403,
    "TCSETSF": 0x5404, "TCSBRK": 0x5409, "SIOCGSTAMP_OLD": 0x8906, "BLKSSZGET": 0x1268,
}  # fmt: skip
"""include/uapi/asm-generic/ioctls.h and sockios.h: what servers ask of descriptors."""
COMMON_IOCTLS = ("FIONBIO", "FIONREAD", "FIOCLEX", "TCGETS", "TIOCGWINSZ", "FIOASYNC")
"""Harmless, and asked only in some circumstances: always allowed."""
PRCTLS = {
    "PR_SET_PDEATHSIG": 1, "PR_GET_PDEATHSIG": 2, "PR_GET_DUMPABLE": 3, "PR_SET_DUMPABLE": 4,
    "PR_GET_KEEPCAPS": 7, "PR_SET_KEEPCAPS": 8, "PR_SET_NAME": 15, "PR_GET_NAME": 16,
    "PR_GET_SECCOMP": 21, "PR_CAPBSET_READ": 23, "PR_GET_SECUREBITS": 27,
    "PR_GET_TIMERSLACK": 30, "PR_SET_TIMERSLACK": 29,
    "PR_TASK_PERF_EVENTS_DISABLE": 31, "PR_SET_NO_NEW_PRIVS": 38, "PR_GET_NO_NEW_PRIVS": 39,
    "PR_SET_CHILD_SUBREAPER": 36, "PR_GET_TID_ADDRESS": 40, "PR_SET_THP_DISABLE": 41,
    "PR_GET_THP_DISABLE": 42, "PR_CAP_AMBIENT": 47, "PR_SET_VMA": 0x53564D41, "PR_SET_MM": 35,
}  # fmt: skip
"""include/uapi/linux/prctl.h."""
COMMON_PRCTLS = ("PR_SET_NAME", "PR_GET_NAME", "PR_SET_PDEATHSIG", "PR_SET_DUMPABLE",
                 "PR_GET_DUMPABLE", "PR_SET_VMA")  # fmt: skip
FAMILIES = {name: int(getattr(socket, name)) for name in
            ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK")}  # fmt: skip
FILTERED = ("clone", "socket", "socketpair", "ioctl", "prctl", "personality")


def profile(needs: Needs, calls: dict[str, str], default: str = "SCMP_ACT_ERRNO") -> dict[str, Any]:
    """The seccomp section that allows `calls`. `default` is what happens to all others."""
    names = sorted(calls.keys() - set(FILTERED) - {NEVER})
    rules = [_rule(names)]
    for call in FILTERED:
        if call in calls and call not in needs.asked:
            rules += _filtered(call, needs)
    for text in needs.asked:
        rules += [rule for rule in _asked(text) if rule not in rules]
    rules.append({"names": [NEVER], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    document: dict[str, Any] = {
        "defaultAction": default,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    }
    if default == "SCMP_ACT_ERRNO":
        document["defaultErrnoRet"] = EPERM
    return document


def _filtered(call: str, needs: Needs) -> list[dict[str, Any]]:
    if call == "clone":
        return [_rule(["clone"], {"index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0,
                                  "op": "SCMP_CMP_MASKED_EQ"})]  # fmt: skip
    if call == "personality":
        return [_rule([call], _equal(0, value)) for value in PERSONALITIES]
    if call == "ioctl":
        return _choices(call, 1, IOCTLS, (*needs.ioctls, *COMMON_IOCTLS))
    if call == "prctl":
        return _choices(call, 0, PRCTLS, (*needs.prctls, *COMMON_PRCTLS))
    families = {family for family, _ in needs.sockets} & FAMILIES.keys()
    if call == "socketpair":
        families |= {"AF_UNIX"}  # two ends within the service, without an address
    raw = {family for family, kind in needs.sockets if kind == "SOCK_RAW"}
    rules = []
    for family in sorted(families):
        kinds = (1, 2) if family not in raw and family != "AF_NETLINK" else (None,)
        for kind in kinds:
            limits = [_equal(0, FAMILIES[family])]
            if kind is not None:
                limits.append(_limit(call, 1, kind))
            rules.append(_rule([call], *limits))
    return rules


def _asked(text: str) -> list[dict[str, Any]]:
    """The rules behind `--allow`, for a call whose arguments are looked at."""
    question = parse(text)
    found: list[dict[str, Any]] = []
    for limits in question.tries:
        rule = _rule([question.call], *(_limit(question.call, *limit) for limit in limits))
        if rule not in found:
            found.append(rule)
    return found


def _limit(call: str, index: int, value: int) -> dict[str, Any]:
    """A socket's type comes with flags, which do not matter; of clone's only namespaces do."""
    if index == 0 and call == "clone":
        return {"index": 0, "value": CLONE_NAMESPACES, "valueTwo": value & CLONE_NAMESPACES,
                "op": "SCMP_CMP_MASKED_EQ"}  # fmt: skip
    if index == 1 and call in ("socket", "socketpair"):
        return {"index": 1, "value": TYPE_MASK, "valueTwo": value & TYPE_MASK,
                "op": "SCMP_CMP_MASKED_EQ"}  # fmt: skip
    return _equal(index, value)


def _choices(
    call: str, index: int, numbers: dict[str, int], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """One rule for each value; all values where one is not known by name."""
    values: dict[int, None] = {}
    for name in names:
        for word in name.split(" or "):
            if word.startswith("0x"):
                values[int(word, 16)] = None
            elif word in numbers:
                values[numbers[word]] = None
    return [_rule([call], _equal(index, value)) for value in sorted(values)]


def _equal(index: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}


def _rule(names: list[str], *limits: dict[str, Any]) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": "SCMP_ACT_ALLOW"}
    if limits:
        rule["args"] = list(limits)
    return rule


def starting(needs: Needs) -> str:
    """The filter from the start on, as a file."""
    return _file(needs, needs.calls, "from the start on")


def serving(needs: Needs) -> str:
    """The narrower filter for the serving phase, as a file."""
    return _file(needs, needs.serving, "once the service answers")


def _file(needs: Needs, calls: dict[str, str], when: str) -> str:
    # JSON has no comments: engines ignore names that they do not know.
    document = {"comment": f"{len(calls)} system calls, {when}; {needs.origin}",
                **profile(needs, calls)}  # fmt: skip
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"
