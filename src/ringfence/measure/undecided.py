"""What a measurement could not decide, and so counts as open: told like all that was not seen."""

from __future__ import annotations

from collections.abc import Iterator

from ringfence.model.deployment import Condition, Deployment
from ringfence.model.evidence import Unseen
from ringfence.model.need import State

MOST_NAMED = 4
"""Conditions of a kind that are named in one line."""


def undecided(deployment: Deployment) -> tuple[Unseen, ...]:
    """The conditions that are unknown, one line for each kind and reason. What nobody stated, and
    a default decides, is none of them."""
    groups: dict[tuple[str, str], tuple[str, dict[str, None]]] = {}
    for name, condition in _unknown(deployment):
        first = condition.evidence[0] if condition.evidence else None
        why = (first.detail if first is not None else "") or "not seen"
        source = first.source if first is not None else name
        kind = name.partition(":")[0]
        groups.setdefault((kind, why), (source, {}))[1][name] = None
    return tuple(
        Unseen(_named(list(names)), why if source in names else f"{source}: {why}")
        for (_, why), (source, names) in groups.items()
    )


def _unknown(deployment: Deployment) -> Iterator[tuple[str, Condition]]:
    for conditions in (deployment.conditions, deployment.admin_conditions):
        for name, condition in conditions.items():
            if condition.state is State.UNKNOWN and condition.stated:
                yield name, condition


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"
