"""From a seccomp profile of ours to the BPF program that the kernel takes. Pure; x86-64.

Engines leave this to libseccomp; the second filter of the serving phase is installed without an
engine. The oracle of its tests is this project's interpreter of such programs, and the kernel.
"""

from __future__ import annotations

import struct
from typing import Any

from ringfence.collect.seccomp.tables import AUDIT_ARCH, X32_BIT, calls_of
from ringfence.errors import InputError

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
"""LD|W|ABS, JMP|JEQ|K, JMP|JGE|K, ALU|AND|K, RET|K (include/uapi/linux/bpf_common.h)."""
ALLOW, ERRNO, KILL_PROCESS, NOTIFY = 0x7FFF0000, 0x00050000, 0x80000000, 0x7FC00000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data."""
MOST_INSTRUCTIONS = 4096
EPERM = 1
Instruction = tuple[int, int, int, int]


def compiled(profile: dict[str, Any]) -> bytes:
    """The program of a profile that allows, notifies or refuses with an errno. Raises
    InputError."""
    numbers = calls_of("x86_64")
    default = ERRNO | int(profile.get("defaultErrnoRet", EPERM))
    program: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, AUDIT_ARCH["x86_64"]),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
        (JUMP_AT_LEAST, 0, 1, X32_BIT),
        (RETURN, 0, 0, default),
    ]
    for rule in profile["syscalls"]:
        action = _action(rule)
        for name in rule["names"]:
            if name in numbers:
                program += _rule(numbers[name], rule.get("args", []), action)
    program.append((RETURN, 0, 0, default))
    if len(program) > MOST_INSTRUCTIONS:
        raise InputError(f"the filter would have {len(program)} instructions")
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _action(rule: dict[str, Any]) -> int:
    if rule["action"] == "SCMP_ACT_ALLOW":
        return ALLOW
    if rule["action"] == "SCMP_ACT_NOTIFY":
        return NOTIFY
    if rule["action"] == "SCMP_ACT_ERRNO":
        return ERRNO | int(rule.get("errnoRet", EPERM))
    raise InputError(f"the filter has an action that is not known here: {rule['action']}")


def _rule(number: int, limits: list[dict[str, Any]], action: int) -> list[Instruction]:
    """One call: all limits must hold, or the rule is passed over with the number loaded again."""
    if not limits:
        return [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, action)]
    body: list[Instruction] = []
    for limit in limits:
        body += _limit(limit)
    body.append((RETURN, 0, 0, action))
    # A failed limit jumps past the return, to where the number is loaded again.
    body = [
        (code, yes, len(body) - place - 1 if code == JUMP_EQUAL else no, value)
        for place, (code, yes, no, value) in enumerate(body)
    ]
    return [(JUMP_EQUAL, 0, len(body) + 1, number), *body, (LOAD, 0, 0, NUMBER)]


def _limit(limit: dict[str, Any]) -> list[Instruction]:
    """Both halves of a 64-bit argument, as equal or equal under a mask."""
    low = ARGUMENTS + 8 * int(limit["index"])
    if limit["op"] == "SCMP_CMP_EQ":
        mask, value = (1 << 64) - 1, int(limit["value"])
    elif limit["op"] == "SCMP_CMP_MASKED_EQ":
        mask, value = int(limit["value"]), int(limit["valueTwo"])
    else:
        raise InputError(f"the filter has a comparison that is not known here: {limit['op']}")
    found: list[Instruction] = []
    for offset, shift in ((low, 0), (low + 4, 32)):
        part = mask >> shift & 0xFFFFFFFF
        if not part:
            continue
        found.append((LOAD, 0, 0, offset))
        if part != 0xFFFFFFFF:
            found.append((AND, 0, 0, part))
        found.append((JUMP_EQUAL, 0, 0, value >> shift & 0xFFFFFFFF))
    return found
