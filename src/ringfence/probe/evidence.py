"""What probing showed, as facts of grade `probed` for the measure. Pure.

A probe settles conditions of the knowledge base, and whole openings as the condition `probe:ID`
(measure/openings.py). One that was stopped closes what it really tried, and nothing else: an
opening with several ways only where all of them were tried. It speaks for code where it stood: for
the other level nothing is settled.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ringfence.knowledge.records import Knowledge
from ringfence.model.deployment import Condition, Deployment
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.need import All, Any, Need, State, leaves
from ringfence.probe.definition import ABSENCE, Seen
from ringfence.probe.layers import by_filter
from ringfence.probe.probing import Probed
from ringfence.probe.record import Attempt

OPENING = "probe:"
NOTHING = Condition(State.OPEN, (), stated=False)
"""For the level at which nothing was tried."""


def conditions(probed: Probed, knowledge: Knowledge) -> dict[str, Condition]:
    """Each condition that was settled, with the attempts that settled it."""
    attempts = {item.id: item for item in probed.report.attempts}
    found: dict[str, Condition] = {}
    at: dict[str, list[Attempt]] = {}
    for probe in probed.probes:
        for name in probe.decides:
            if name.startswith(OPENING):
                at.setdefault(name, []).append(attempts[probe.id])
            elif (condition := _settled(name, attempts[probe.id], probed)) is not None:
                found[name] = condition
    for name, tried in at.items():
        need = _needs(name.removeprefix(OPENING), knowledge)
        whole = _opening(tried, _alternatives(need), found, probed)
        if whole is not None:
            found[name] = whole
    return {**found, **_ruled_out(probed, attempts)}


def _ruled_out(probed: Probed, attempts: Mapping[str, Attempt]) -> dict[str, Condition]:
    """Conditions to which there is no way: each attempt that leads there was stopped, and not by a
    filter, which is asked about calls and not about where they lead."""
    tried: dict[str, list[Attempt]] = {}
    for probe in probed.probes:
        for name in probe.rules_out:
            tried.setdefault(name, []).append(attempts[probe.id])
    return {
        name: Condition(State.CLOSED, tuple(_evidence(one, probed) for one in found))
        for name, found in tried.items()
        if all(_stopped(one) and not by_filter(one.stopped_by) for one in found)
    }


def _settled(name: str, attempt: Attempt, probed: Probed) -> Condition | None:
    """What one attempt says of a condition. Where it was stopped it says so of what it tried: a
    filter's answer is about calls, and anything else is about none."""
    if attempt.seen == Seen.UNSUPPORTED.value or attempt.stopped_by == "limit":
        return None  # no room at the moment, which an attacker makes
    if attempt.seen == Seen.OPEN.value:
        return Condition(State.OPEN, (_evidence(attempt, probed),))
    if name.startswith(("cap:", "nscap:")) and not _about_privilege(name, attempt):
        return None
    if by_filter(attempt.stopped_by) != name.startswith("syscall:"):
        return None
    return Condition(State.CLOSED, (_evidence(attempt, probed),))


def _opening(
    attempts: list[Attempt],
    alternatives: frozenset[str],
    found: Mapping[str, Condition],
    probed: Probed,
) -> Condition | None:
    """An opening as a whole, by all attempts at it: open where one is; closed where each was
    stopped and each of several ways to it was tried, or is closed by an attempt of its own. Those
    that a filter stopped tried nothing behind it: what filters leave, the calls' own attempts say.
    """
    opened = [one for one in attempts if one.seen == Seen.OPEN.value]
    if opened:
        return Condition(State.OPEN, (_evidence(opened[0], probed),))
    stopped = [one for one in attempts if not by_filter(one.stopped_by)]
    if not stopped or not all(map(_stopped, stopped)):
        return None
    calls = {name for one in stopped for name in probed.tried.get(one.id, ())}
    left = {name for name in alternatives if _call_of(name) not in calls}
    if any(name not in found or found[name].state is not State.CLOSED for name in left):
        return None
    return Condition(State.CLOSED, tuple(_evidence(one, probed) for one in stopped))


def _stopped(attempt: Attempt) -> bool:
    """What the kernel does not have is no way in, whatever configuration permits."""
    if attempt.seen == Seen.UNSUPPORTED.value:
        return attempt.stopped_by == ABSENCE
    return attempt.seen == Seen.CLOSED.value and attempt.stopped_by != "limit"


def _needs(opening: str, knowledge: Knowledge) -> Need:
    return (knowledge.families.get(opening) or knowledge.vectors[opening]).needs


def _alternatives(need: Need) -> frozenset[str]:
    """What an attacker does to come to an opening by one of several ways: calls and files."""
    if isinstance(need, Any):
        return frozenset(name for name in leaves(need) if name.startswith(("syscall:", "path:")))
    if isinstance(need, All):
        return frozenset(name for part in need.parts for name in _alternatives(part))
    return frozenset()


def _call_of(condition: str) -> str:
    kind, _, what = condition.partition(":")
    return what.partition("[")[0] if kind == "syscall" else ""


def _about_privilege(name: str, attempt: Attempt) -> bool:
    """A filter that stops the one call by which a capability was tried says nothing of it."""
    return attempt.seen == Seen.OPEN.value or attempt.stopped_by in (
        f"capability {name.partition(':')[2]}", "user namespace")  # fmt: skip


def _evidence(attempt: Attempt, probed: Probed) -> Evidence:
    target = probed.report.target
    said = f"{attempt.seen}: {attempt.detail}" if attempt.detail else attempt.seen
    if attempt.stopped_by:
        said += f" (stopped by {attempt.stopped_by})"
    source = f"probe {attempt.id} in {target.program}[{target.pid}] ({target.stance})"
    return Evidence(Grade.PROBED, source, said)


def with_probed(
    deployment: Deployment, all_probed: tuple[Probed, ...], knowledge: Knowledge
) -> Deployment:
    """The deployment with what probing settled. Of several processes at one level the widest
    answer counts: an attacker chooses."""
    user = _widest([conditions(item, knowledge) for item in all_probed if not item.admin])
    admin = _widest([conditions(item, knowledge) for item in all_probed if item.admin])
    return msgspec.structs.replace(
        deployment,
        conditions={**deployment.conditions, **user, **_silent(admin, user)},
        admin_conditions={**_kept(deployment, user), **_silent(user, admin), **admin},
    )


def _kept(deployment: Deployment, user: dict[str, Condition]) -> dict[str, Condition]:
    """Admin's own conditions; where it had none of its own, those of the user before probing."""
    before = {name: deployment.conditions[name] for name in user if name in deployment.conditions}
    return {**before, **deployment.admin_conditions}


def _silent(one: dict[str, Condition], other: dict[str, Condition]) -> dict[str, Condition]:
    """Openings that were tried at one level and not at the other."""
    return {name: NOTHING for name in one if name.startswith(OPENING) and name not in other}


def _widest(found: list[dict[str, Condition]]) -> dict[str, Condition]:
    order = (State.OPEN, State.UNKNOWN, State.CLOSED)
    united: dict[str, Condition] = {}
    for one in found:
        for name, condition in one.items():
            if name not in united or order.index(condition.state) < order.index(united[name].state):
                united[name] = condition
    # An opening that was tried by some and not by all is closed by none of them.
    return {name: condition for name, condition in united.items()
            if condition.state is State.OPEN or all(name in one for one in found)}  # fmt: skip
