"""The state of every mechanism, read off its signs; and what turning one on would change."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ringfence.knowledge.records import Knowledge, Mechanism
from ringfence.measure.openings import find
from ringfence.model.deployment import Boundary, Condition, Deployment, MechanismState, Switch
from ringfence.model.evidence import Evidence
from ringfence.model.need import State
from ringfence.model.position import Level


def state_of(mechanism: Mechanism, deployment: Deployment, knowledge: Knowledge) -> MechanismState:
    """The mechanism as it is here: on when all of its signs are closed for all whom it binds.

    A sign that nobody stated leaves it unknown, whatever default decides the vectors.
    """
    levels = (Level.USER, Level.ADMIN) if mechanism.holds_admin else (Level.USER,)
    found = [deployment.condition(sign, level) for sign in mechanism.signs for level in levels]
    states = {condition.state for condition in found}
    evidence = tuple(dict.fromkeys(item for condition in found for item in condition.evidence))
    switch = _switch(states) if all(item.stated for item in found) else Switch.UNKNOWN
    if switch is Switch.ON and mechanism.gradual and _leaves_open(mechanism, deployment, knowledge):
        switch = Switch.PARTIAL
    return MechanismState(mechanism.id, switch, evidence[:4])


def _leaves_open(mechanism: Mechanism, deployment: Deployment, knowledge: Knowledge) -> bool:
    """Whether some vector is open that the mechanism, done fully, would close."""
    closes = knowledge.closed_by[mechanism.id]
    return any(
        closes.intersection(vector.conditions) for vector in find(deployment, knowledge).open
    )


def _switch(states: set[State]) -> Switch:
    if states == {State.CLOSED}:
        return Switch.ON
    if State.UNKNOWN in states:
        return Switch.UNKNOWN
    return Switch.PARTIAL if State.CLOSED in states else Switch.OFF


def describe(deployment: Deployment, knowledge: Knowledge) -> tuple[Boundary, ...]:
    """The deployment's boundaries, each with the state of every mechanism that holds it."""
    states: dict[str, list[MechanismState]] = {}
    for mechanism in knowledge.mechanisms.values():
        states.setdefault(mechanism.boundary, []).append(state_of(mechanism, deployment, knowledge))
    return tuple(
        msgspec.structs.replace(line, mechanisms=tuple(states.get(line.kind, ())))
        for line in deployment.boundaries
    )


def switched(
    deployment: Deployment,
    knowledge: Knowledge,
    mechanisms: Iterable[Mechanism],
    state: State,
    evidence: Evidence,
) -> Deployment:
    """The deployment with `mechanisms` turned on (state closed) or off (state open).

    On closes all that a mechanism closes; off opens its signs alone, since other mechanisms may
    still hold the rest. A mechanism that does not hold admin leaves what admin can do as it was.
    """
    touched: set[str] = set()
    user_only: set[str] = set()
    for mechanism in mechanisms:
        names = knowledge.closed_by[mechanism.id] if state is State.CLOSED else mechanism.signs
        (touched if mechanism.holds_admin else user_only).update(names)
    changed = Condition(state, (evidence,))
    kept = {name: deployment.condition(name, Level.ADMIN) for name in user_only}
    return msgspec.structs.replace(
        deployment,
        conditions={**deployment.conditions, **dict.fromkeys(touched | user_only, changed)},
        admin_conditions={
            **deployment.admin_conditions,
            **kept,
            **dict.fromkeys(touched, changed),
        },
    )
