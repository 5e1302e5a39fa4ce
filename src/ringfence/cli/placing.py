"""Which deployments a comparison shows: the targets as measured, and the first one placed."""

from __future__ import annotations

import msgspec

from ringfence.cli.probed import tried
from ringfence.collect.targets import collect
from ringfence.errors import UsageError
from ringfence.knowledge.records import Knowledge
from ringfence.measure.deduce import deduce
from ringfence.measure.judge import deployment_of
from ringfence.measure.place import place
from ringfence.model.deployment import Deployment
from ringfence.model.facts import Target


def placements(
    targets: tuple[str, ...],
    places: tuple[str, ...],
    kind: str,
    knowledge: Knowledge,
    *,
    probe: bool = False,
) -> list[tuple[Target, Deployment]]:
    """Every deployment to compare, each under a name of its own; `probe`: targets are tried."""
    unknown = [name for name in places if name not in knowledge.templates]
    if unknown:
        known = ", ".join(knowledge.templates)
        raise UsageError(f"no deployment {unknown[0]!r}", remedy=f"use one of {known}")
    read = [collect(target, knowledge, kind) for target in targets]
    # Several targets run the same service: an examined guest does not show which.
    shown = next((facts for facts in read if facts.examined is None), None)
    service = deduce(shown or read[0], knowledge)
    same = service if shown is not None else None
    found = [(facts.target, deployment_of(facts, knowledge, same)) for facts in read]
    if probe:
        found = [(facts.target, tried(facts, deployment, knowledge))
                 for facts, (_, deployment) in zip(read, found, strict=True)]  # fmt: skip
    found += [
        ((shown or read[0]).target, place(service, knowledge.templates[name], knowledge))
        for name in dict.fromkeys(places)
    ]
    return _named(found)


def _named(found: list[tuple[Target, Deployment]]) -> list[tuple[Target, Deployment]]:
    """Names must differ: the order and the swaps are told by them."""
    seen: dict[str, int] = {}
    named = []
    for target, deployment in found:
        count = seen[deployment.name] = seen.get(deployment.name, 0) + 1
        if count > 1:
            name = f"{deployment.name} ({count})"
            deployment = msgspec.structs.replace(deployment, name=name)
        named.append((target, deployment))
    return named
