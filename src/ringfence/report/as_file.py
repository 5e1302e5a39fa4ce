"""A deployment in the TOML form of docs/declared.md, to edit and measure again."""

from __future__ import annotations

from typing import Any

import tomli_w

from ringfence.collect.declared import SCHEMA
from ringfence.model.deployment import Boundary, Condition, Deployment, EntryPoint
from ringfence.model.evidence import Evidence
from ringfence.model.position import Level

HEADING = """\
# Written by `ringfence measure --as-file`. Change it and measure it again.
#
# Mechanisms: change `state`; `measured` remembers what was seen. Turning one on closes all that
# it closes, turning one off opens its signs. Conditions: change `state` of a [[condition]].
# Whatever this file says is of grade `declared`.

"""


def as_file(deployment: Deployment, boundaries: tuple[Boundary, ...]) -> str:
    """`deployment` as TOML; `boundaries` are the same with the states of their mechanisms."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "name": deployment.name,
        "kernel_zone": deployment.kernel_zone,
        "ring": deployment.ring,
        "lower_bound": deployment.lower_bound,
        "notes": list(deployment.notes),
        "conditions": {"default": deployment.default.state.value},
        "counts": {
            name: {
                "value": count.value,
                "source": count.evidence.source,
                **({"at_least": True} if count.at_least else {}),
            }
            for name, count in deployment.counts.items()
            if count.value is not None
        },
        "zones": [
            {
                "name": zone.name,
                "assets": [
                    {"kind": item.kind.value, "title": item.title, "level": item.level.value}
                    for item in zone.assets
                ],
            }
            for zone in deployment.zones
        ],
        "boundaries": [_boundary(line) for line in boundaries],
        "entry_points": [_entry_point(point) for point in deployment.entry_points],
        "known": [{"vector": item.vector, "cve": item.cve} for item in deployment.known],
        "condition": [
            *(
                _condition(name, item, Level.USER)
                for name, item in deployment.conditions.items()
                if item.stated
            ),
            *(
                _condition(name, item, Level.ADMIN)
                for name, item in deployment.admin_conditions.items()
            ),
        ],
    }
    return HEADING + tomli_w.dumps(document)


def _boundary(line: Boundary) -> dict[str, Any]:
    mechanisms = [
        {"id": item.id, "state": item.state.value, "measured": item.state.value}
        for item in line.mechanisms
    ]
    return {"kind": line.kind.value, "zone": line.zone, "mechanisms": mechanisms}


def _entry_point(point: EntryPoint) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": point.id,
        "kind": point.kind,
        "reach": point.reach.value,
        "address": point.address,
        "leak": point.leak.value if point.leak else "none",
        "execution": point.execution.value if point.execution else "none",
        "handler": {
            "level": point.handler.level.value,
            "program": point.handler.program,
            "user": point.handler.user,
            "evidence": _evidence(point.handler.evidence),
        },
        "evidence": [_evidence(item) for item in point.evidence],
    }
    if point.port is not None:
        made["port"] = point.port
    if point.supposed:
        made["supposed"] = True
    return made


def _condition(name: str, condition: Condition, level: Level) -> dict[str, Any]:
    made: dict[str, Any] = {"id": name, "state": condition.state.value}
    if level is Level.ADMIN:
        made["level"] = level.value
    made["evidence"] = [_evidence(item) for item in condition.evidence]
    return made


def _evidence(item: Evidence) -> dict[str, str]:
    return {"grade": item.grade.value, "source": item.source, "detail": item.detail}
