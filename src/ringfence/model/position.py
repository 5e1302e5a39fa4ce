"""Positions: where an attacker stands."""

from __future__ import annotations

import enum

import msgspec


class Level(enum.StrEnum):
    """What the attacker holds in a zone, least first."""

    DATA = "data"
    USER = "user"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """0 for `data`, 1 for `user`, 2 for `admin`."""
        return _RANK[self]


_RANK = {level: rank for rank, level in enumerate(Level)}

OUTSIDE_ZONE = "outside"


class Position(msgspec.Struct, frozen=True):
    """`outside` (level None), or a level in a zone."""

    zone: str
    level: Level | None = None

    def __str__(self) -> str:
        return f"{self.zone}:{self.level}" if self.level is not None else self.zone


OUTSIDE = Position(OUTSIDE_ZONE)
