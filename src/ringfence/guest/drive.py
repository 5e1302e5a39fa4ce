"""The guest under load: the exercise runs, over and over, while samples are taken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from ringfence.guest.exercise import running
from ringfence.guest.observation import Phase
from ringfence.guest.sample import Sampler

_AGAIN = 0.3
"""Seconds before an exercise that failed is tried again: the guest may still be coming up."""
_PAUSE = 0.002


class Drive(msgspec.Struct, frozen=True):
    """`command` is run until `wanted` samples of running code were taken (in ring 3, if `ring3`),
    or for `seconds`. `whole`: once to its end; otherwise it may be cut short."""

    command: str
    wanted: int
    seconds: float
    ring3: bool = False
    whole: bool = True


async def drive(sampler: Sampler, how: Drive, more: Mapping[str, str], limit: float) -> int | None:
    """Exit status of the exercise: 0 if it succeeded once; None where it was cut short or killed.

    Until it first succeeds it is tried again, and samples of failures are forgotten: the guest may
    still be coming up. Afterwards it is repeated for more samples. Raises Ended.
    """
    status: int | None = None
    until = sampler.elapsed + how.seconds
    while sampler.elapsed < limit:
        status = await _once(sampler, how, more, limit if how.whole else min(limit, until))
        if status is None or status == 0:
            break
        await asyncio.sleep(_AGAIN)
        if sampler.elapsed < limit:
            sampler.forget()
            until = sampler.elapsed + how.seconds
    while status == 0 and sampler.elapsed < until and not _enough(sampler, how):
        if await _once(sampler, how, more, until) != 0:
            break
    return status


async def _once(sampler: Sampler, how: Drive, more: Mapping[str, str], limit: float) -> int | None:
    async with running(how.command, more) as process:
        while process.returncode is None and sampler.elapsed < limit:
            await sampler.look()
            if not how.whole and _enough(sampler, how):
                break
            await sampler.pause(_PAUSE)
        return process.returncode


def _enough(sampler: Sampler, how: Drive) -> bool:
    looks = [look.registers for look in sampler.looks if look.phase is Phase.LOAD]
    taken = [one for one in looks if not one.halted and (one.ring == 3 or not how.ring3)]
    return len(taken) >= how.wanted
