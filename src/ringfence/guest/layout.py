"""How much the layout of memory differs from boot to boot: a lower bound in bits.

Few boots show few values, and what can be said is the lesser of two counts. The bits of the address
that came out differently: each of n random bits is the same in all of k boots with a probability of
2^(1-k). And the steps in the range seen: log2(span / step + 1), where the step is the largest power
of two that divides all differences; two neighbours differ in many bits, but by one step only. Equal
addresses are 0 bits. It is a lower bound for positions that are equally likely.
"""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter
from collections.abc import Sequence


def usual(values: Sequence[int]) -> int | None:
    """The value seen most often in one boot, the lowest of equals; None where nothing was seen."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value), default=None)


def bits(boots: Sequence[Sequence[int]]) -> float | None:
    """At least so many random bits, rounded down to a tenth; `boots` holds what each one showed.

    None where fewer than two boots showed anything. 0 where one address came again in every boot:
    what differs beside it (other threads, other programs) shows no randomness.
    """
    seen = [values for values in boots if values]
    if len(seen) < 2:
        return None
    if set(seen[0]).intersection(*seen[1:]):
        return 0.0
    chosen = [value for values in seen if (value := usual(values)) is not None]
    span = max(chosen) - min(chosen)
    if span == 0:
        return 0.0
    low = min(chosen)
    step = math.gcd(*(value - low for value in chosen))
    step &= -step
    steps = math.floor(math.log2(span // step + 1) * 10) / 10
    changed = functools.reduce(operator.or_, (value ^ low for value in chosen))
    return min(steps, float(changed.bit_count()))
