"""Whether a guest has come up, judged from samples alone: no agent inside, no text to wait for."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.guest.observation import Look

QUIET = 0.4
"""Seconds in which an idle guest halts nearly all the time and says nothing."""
BUSY = 2.0
"""Seconds after which one that never halts is up, if it ran no new code in the second half."""
KNOWN_BUSY = 0.5
"""The same in later boots of a guest that was busy in the first, once the time has passed at which
it began to go round there."""
_HALTED, _NEW = 0.9, 0.05
_FEWEST = 8
_PAGE = 12


def idle(looks: Sequence[Look]) -> bool:
    """Whether the guest waits for something to do."""
    recent = _last(looks, QUIET)
    if recent is None or recent[0].said != recent[-1].said:
        return False
    return sum(look.registers.halted for look in recent) >= _HALTED * len(recent)


def busy(looks: Sequence[Look], seconds: float = BUSY) -> bool:
    """Whether the guest goes round in a loop: a booting one comes to new code all the time."""
    recent = _last(looks, seconds)
    if recent is None:
        return False
    half = recent[-1].at - seconds / 2
    known = {_code(look) for look in recent if look.at < half}
    later = [_code(look) for look in recent if look.at >= half]
    return bool(known) and sum(code not in known for code in later) <= _NEW * len(later)


def _code(look: Look) -> tuple[int, int, tuple[int, ...]]:
    """The page that runs, in which ring, with which vectors."""
    return look.registers.ip >> _PAGE, look.registers.ring, look.registers.tables


def _last(looks: Sequence[Look], seconds: float) -> Sequence[Look] | None:
    """The samples of the last `seconds`; None where there are too few, or not that many yet."""
    if not looks or looks[-1].at - looks[0].at < seconds:
        return None
    since = looks[-1].at - seconds
    recent = [look for look in looks if look.at >= since]
    return recent if len(recent) >= _FEWEST else None
