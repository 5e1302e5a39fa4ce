"""All probes, one after the other, each in a child of its own; and the same where nothing forbids
it, so that "closed" never means "tried wrongly"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from ringfence.probe.abi import Abi
from ringfence.probe.definition import ABSENCE, Inside, Outcome, Probe, Seen, undecided
from ringfence.probe.driven import Blocked, Driven, Killed, Worthless
from ringfence.probe.layers import by_filter, layer_of
from ringfence.probe.oracle import Answer, Oracle
from ringfence.probe.priority import preferred
from ringfence.probe.view import View
from ringfence.run.tracee import Ended, InjectionFailed

SIGSYS = 31
PURE_GROUP = "system calls"
"""Probes of this group ask the oracle alone: they need no child of their own."""


class Result(msgspec.Struct, frozen=True):
    """What came of a probe: the outcome, the layer that stopped it ('' where none did), and the
    names of the calls that were made on ways that no filter stopped."""

    outcome: Outcome
    layer: str = ""
    tried: frozenset[str] = frozenset()


def attempted(
    zygote: Driven,
    view: View,
    probes: Iterable[Probe],
    programs: tuple[bytes, ...] = (),
    abis: tuple[Abi, ...] = (),
) -> dict[str, Result]:
    """The result of each probe by its id. `programs` are the workload's filters, `abis` what the
    kernel offers beside its own ABI (`Oracle`). Raises Ended when the zygote itself is gone,
    InjectionFailed when it cannot fork."""
    oracle = Oracle(zygote, programs, abis)
    try:
        with preferred():
            return {probe.id: _one(zygote, oracle, view, probe) for probe in probes}
    finally:
        oracle.close()


def _one(zygote: Driven, oracle: Oracle, view: View, probe: Probe) -> Result:
    if probe.group == PURE_GROUP:
        return _judged(probe.attempt, Inside(zygote, oracle, view), pure=True)
    results: list[Result] = []
    for way in probe.ways:
        with zygote.fork() as child:
            inside = Inside(child, oracle, view)
            try:
                results.append(_judged(way, inside))
            finally:
                if inside.child is not child:
                    inside.child.close()
        if results[-1].outcome.seen is Seen.OPEN:
            break
    return united(results)


def united(results: Sequence[Result]) -> Result:
    """What several ways to the same come to: open where one is; closed where each is or is none of
    this kernel's. What stopped one behind the filters says more than a filter."""
    ranks = (
        [one for one in results if one.outcome.seen is Seen.OPEN],
        [one for one in results if one.outcome.seen is Seen.UNSUPPORTED and one.layer != ABSENCE],
        [one for one in results if one.outcome.seen is Seen.CLOSED and not by_filter(one.layer)],
        [one for one in results if one.outcome.seen is Seen.CLOSED],
        results,
    )
    chosen = next(rank[0] for rank in ranks if rank)
    tried = frozenset(name for one in results if not by_filter(one.layer) for name in one.tried)
    return msgspec.structs.replace(chosen, tried=tried)


def _judged(way: Callable[[Inside], Outcome], inside: Inside, *, pure: bool = False) -> Result:
    try:
        outcome = way(inside)
    except Killed as killed:
        outcome = _ended(inside, killed)
    except Blocked as blocked:
        outcome = Outcome(Seen.UNSUPPORTED, str(blocked))
    except (Ended, Worthless):
        raise
    except (InjectionFailed, OSError) as failure:
        outcome = Outcome(Seen.UNSUPPORTED, f"could not be tried: {failure}")
    layer = layer_of(outcome, inside) if outcome.seen is Seen.CLOSED else outcome.layer
    tried = frozenset(inside.tried)
    if outcome.seen is Seen.CLOSED and by_filter(layer) and not pure:
        other = _other_way(outcome, layer, inside)
        if other:
            return Result(undecided(other), tried=tried)
    return Result(outcome, layer, tried)


def _other_way(outcome: Outcome, layer: str, inside: Inside) -> str:
    """Where the filters let through, or may, what they refused to the attempt; '' where they do
    not."""
    last = inside.last
    if last is not None and not inside.child.alive:
        inside.passes(last.name, *last.arguments)  # the end of the child was the answer so far
    for (name, arguments), verdict in inside.denied.items():
        # A copy of the filter has nobody to ask, and what was not made was not answered.
        made = inside.view.owns and outcome.tried is not None
        if verdict.answer is Answer.ASK and not made:
            return f"the filter asks another process about {name}, which was not asked here"
        for abi, other in inside.oracle.elsewhere(name, arguments):
            if other.passes or other.answer is Answer.ASK:
                return f"{layer} lets {name} through as {abi.name}, which was not tried"
    return ""


def _ended(inside: Inside, killed: Killed) -> Outcome:
    """The call was the end of the child: by a filter's doing, or something is wrong."""
    if killed.signal == SIGSYS:
        return Outcome(Seen.CLOSED, str(killed), layer="seccomp (kill)")
    return Outcome(Seen.UNSUPPORTED, f"{killed} (signal {killed.signal})")
