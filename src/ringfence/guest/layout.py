"""How much the layout of memory differs from boot to boot: a lower bound in bits.

What is proven is that so many different values came up: a position that was seen in n places is
drawn from n at least, which takes log2(n) bits. Nothing is concluded from how far apart they lie:
four places that are scattered wide are four. So k boots show log2(k) bits at most, 2.3 for five.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence


def bits(boots: Sequence[Iterable[Hashable]]) -> float | None:
    """At least so many random bits, rounded down to a tenth; `boots` holds the values that each one
    showed of one thing, or of several that cannot be told apart.

    0 where one value came again in every boot: what differs beside it (other threads, other
    programs) shows no randomness. None where fewer than two boots showed anything, and where values
    came again in some boots, so that all hang together, but none in every one.
    """
    seen = [found for values in boots if (found := set(values))]
    if len(seen) < 2:
        return None
    if set.intersection(*seen):
        return 0.0
    apart = len(separate(seen))
    return math.floor(math.log2(apart) * 10) / 10 if apart > 1 else None


def separate(boots: Sequence[set[Hashable]]) -> list[set[Hashable]]:
    """The boots joined where they share a value: whatever a thing's value is in one of these, it is
    another in each of the others."""
    found: list[set[Hashable]] = []
    for values in boots:
        mine = [one for one in found if one & values]
        found = [one for one in found if not one & values]
        found.append(values.union(*mine))
    return found
