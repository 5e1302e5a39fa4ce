"""What probing showed, as facts of grade `probed` for the measure. Pure.

A probe settles conditions of the knowledge base, and whole openings as the condition `probe:ID`
(measure/openings.py). It speaks for code where it stood: for the other level nothing is settled.
"""

from __future__ import annotations

import msgspec

from ringfence.model.deployment import Condition, Deployment
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.need import State
from ringfence.probe.definition import Seen
from ringfence.probe.probing import Probed
from ringfence.probe.record import Attempt

OPENING = "probe:"
ABSENT = "kernel without the feature"
NOTHING = Condition(State.OPEN, (), stated=False)
"""For the level at which nothing was tried."""


def conditions(probed: Probed) -> dict[str, Condition]:
    """Each condition that was settled, with the attempt that settled it."""
    attempts = {item.id: item for item in probed.report.attempts}
    found: dict[str, Condition] = {}
    for probe in probed.probes:
        attempt = attempts[probe.id]
        for name in probe.decides:
            condition = _settled(name, attempt, probed)
            if condition is not None:
                found[name] = condition
    return {**found, **_ruled_out(probed, attempts)}


def _ruled_out(probed: Probed, attempts: dict[str, Attempt]) -> dict[str, Condition]:
    """Conditions to which there is no way: each attempt that leads there is closed, or one that
    the kernel does not have."""
    tried: dict[str, list[Attempt]] = {}
    for probe in probed.probes:
        for name in probe.rules_out:
            tried.setdefault(name, []).append(attempts[probe.id])
    return {
        name: Condition(State.CLOSED, tuple(_evidence(one, probed) for one in found))
        for name, found in tried.items() if all(map(_shut, found))
    }  # fmt: skip


def _shut(attempt: Attempt) -> bool:
    if attempt.seen == Seen.UNSUPPORTED.value:
        return attempt.stopped_by == ABSENT
    return attempt.seen == Seen.CLOSED.value and attempt.stopped_by != "limit"


def _settled(name: str, attempt: Attempt, probed: Probed) -> Condition | None:
    if attempt.seen == Seen.UNSUPPORTED.value:
        # What the kernel does not have is no way in, whatever configuration permits.
        if name.startswith(OPENING) and attempt.stopped_by == ABSENT:
            return Condition(State.CLOSED, (_evidence(attempt, probed),))
        return None
    if attempt.stopped_by == "limit":
        return None  # no room at the moment, which an attacker makes
    if name.startswith(("cap:", "nscap:")) and not _about_privilege(name, attempt):
        return None
    state = State.OPEN if attempt.seen == Seen.OPEN.value else State.CLOSED
    return Condition(state, (_evidence(attempt, probed),))


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


def with_probed(deployment: Deployment, all_probed: tuple[Probed, ...]) -> Deployment:
    """The deployment with what probing settled. Of several processes at one level the widest
    answer counts: an attacker chooses."""
    user = _widest([conditions(item) for item in all_probed if not item.admin])
    admin = _widest([conditions(item) for item in all_probed if item.admin])
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
