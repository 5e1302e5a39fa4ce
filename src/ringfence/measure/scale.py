"""What a vector weighs: worth of the level that it gives, discounted by the steps before it."""

from __future__ import annotations

from ringfence.knowledge.records import Scale
from ringfence.model.deployment import Deployment
from ringfence.model.position import Level, Position


def worth(position: Position, deployment: Deployment, scale: Scale) -> float:
    """What holding `position` is worth on `scale`; `outside` is worth nothing."""
    if position.level is None:
        return 0.0
    if position.level is Level.ADMIN and not holds_beyond(position.zone, deployment):
        return scale.admin_alone
    return {Level.DATA: scale.data, Level.USER: scale.user, Level.ADMIN: scale.admin}[
        position.level
    ]


def holds_beyond(zone: str, deployment: Deployment) -> bool:
    """Whether `zone` holds other services, tenants or the machine, beyond the service itself."""
    return any(
        asset.kind.beyond_service
        for candidate in deployment.zones
        if candidate.name == zone
        for asset in candidate.assets
    )


def weight(position: Position, steps: int | None, deployment: Deployment, scale: Scale) -> float:
    """weight = worth / discount ** steps; 0 where the vector's start is out of reach (None)."""
    if steps is None:
        return 0.0
    return worth(position, deployment, scale) / scale.discount**steps
