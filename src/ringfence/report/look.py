"""How a result is to look; a format that has no use for it leaves it aside."""

from __future__ import annotations

import msgspec


class Look(msgspec.Struct, frozen=True):
    """`colour`: whether the reader's terminal wants it. `width`: columns of a line."""

    colour: bool = False
    width: int = 120
