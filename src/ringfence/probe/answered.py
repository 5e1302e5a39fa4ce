"""Filters as they work where `ringfence run` listens: what they hand on, it refuses with EPERM.

A process that joins a workload gets copies of its filters, to which nobody listens. So that what it
tries is answered as the workload is answered, the copies refuse by themselves.
"""

from __future__ import annotations

import struct

from ringfence.collect.process.answering import refusing

_STEP = struct.Struct("=HBBI")
"""struct sock_filter (include/uapi/linux/filter.h)."""
RETURN, ACTION, USER_NOTIF, REFUSED = 0x06, 0xFFFF0000, 0x7FC00000, 0x00050001


def as_answered(pid: int, programs: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The programs of a process's filters; those of a workload of ours with EPERM in place of each
    constant USER_NOTIF."""
    if not any(map(asks, programs)) or refusing(pid) is None:
        return programs
    return tuple(
        b"".join(_STEP.pack(*_refused(*step)) for step in _STEP.iter_unpack(program))
        for program in programs
    )


def asks(program: bytes) -> bool:
    """Whether a filter has the answer USER_NOTIF among its constant ones."""
    return any(code == RETURN and value & ACTION == USER_NOTIF
               for code, _, _, value in _STEP.iter_unpack(program))  # fmt: skip


def _refused(code: int, true: int, false: int, value: int) -> tuple[int, int, int, int]:
    handed_on = code == RETURN and value & ACTION == USER_NOTIF
    return code, true, false, REFUSED if handed_on else value
